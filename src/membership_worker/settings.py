"""Settings of the worker."""

from datetime import timedelta

from pydantic import Field

from audience_core.settings import CoreSettings, Duration


class WorkerSettings(CoreSettings):
    """What a worker needs beside the core's settings."""

    metrics_port: int = Field(9101, ge=0, le=65535, description="port of probes and metrics; 0 = any free one")
    worker_group: str = Field("membership-worker", description="Kafka consumer group")
    worker_stuck_after: Duration = Field(
        timedelta(seconds=60),
        description="a shard with unread records that stands still for this long, or a loop that hangs, ends `/livez`",
    )
    worker_batch: int = Field(1000, ge=1, description="records fetched at once")
    drain_timeout: Duration = Field(
        timedelta(seconds=20), description="a drain that takes longer than this ends the process"
    )
    poison_ratio: float = Field(0.1, gt=0, le=1, description="share of poison in a window that stops the worker")
    poison_window: int = Field(1000, ge=1, description="records over which the share of poison is measured")
    accept_partial_rebuild: bool = Field(
        False, description="rebuild an empty Redis from a log whose start retention has deleted already"
    )
