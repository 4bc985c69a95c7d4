"""Settings of the indexer."""

from datetime import timedelta

from pydantic import Field

from audience_core.settings import CoreSettings, Duration


class IndexerSettings(CoreSettings):
    """What the indexer needs beside the core's settings."""

    metrics_port: int = Field(9102, ge=0, le=65535, description="port of probes and metrics; 0 = any free one")
    indexer_check_every: Duration = Field(
        timedelta(seconds=1), description="how often it looks whether Redis went back or lost the listing"
    )
    indexer_silence_every: Duration = Field(
        timedelta(seconds=30), description="how often it looks which connectors are silent"
    )
    indexer_compare_every: Duration = Field(
        timedelta(seconds=30), description="how often the totals are compared with the shards' own counts in Redis"
    )
    indexer_measure_every: Duration = Field(
        timedelta(seconds=5), description="how often the lag of every shard and the memory of Redis are measured"
    )
