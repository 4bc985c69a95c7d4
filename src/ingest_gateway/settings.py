"""Settings of the gateway."""

from datetime import timedelta
from pathlib import Path

from pydantic import Field, SecretStr

from audience_core.settings import CoreSettings, Duration


class GatewaySettings(CoreSettings):
    """What the gateway needs beside the core's settings."""

    gateway_port: int = Field(8080, ge=0, le=65535, description="port of the Firehose endpoint; 0 = any free one")
    gateway_processes: int = Field(
        1,
        ge=1,
        le=64,
        description="processes of one gateway that share its port, one a core; over 1 needs Linux. What is said of one "
        "process, of quotas, connections and the spool's bytes, holds for each",
    )
    ack_timeout: Duration = Field(
        timedelta(milliseconds=80), description="bound on each wait for Kafka; mParticle allows 100 ms in all"
    )
    spool_dir: Path | None = Field(
        None, description="folder on a local disk for records that Kafka does not take; without one, 503 is answered"
    )
    spool_bytes: int = Field(
        1_000_000_000, gt=0, description="bytes of records that the spool of one process holds; then 503 is answered"
    )
    spool_after: Duration = Field(
        timedelta(milliseconds=40), description="with a spool: bound on waiting for Kafka before the disk is used"
    )
    quota_changes_per_second: float = Field(
        0, ge=0, description="changes a second of one account in one process, else 429; 0 = no limit"
    )
    quota_burst: float = Field(
        0, ge=0, description="changes that an idle account may send at once; 0 = ten seconds' worth"
    )
    body_limit: int = Field(5_000_000, gt=0, description="largest request body in bytes, counted unpacked")
    header_timeout: Duration = Field(timedelta(seconds=5), description="a connection must send a whole header in this")
    request_timeout: Duration = Field(timedelta(seconds=10), description="a request's body must arrive within this")
    max_connections: int = Field(2000, gt=0, description="open connections of one gateway process")
    firehose_token: SecretStr = Field(
        SecretStr(""),
        description="mParticle's `Authorization: Token`; lets erasures without an account through",
    )
