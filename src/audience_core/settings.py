"""Settings that more than one service reads: environment, prefix `AUDIENCE_`, or files; frozen, read once at start."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as SourceError

from audience_core.errors import SettingsError

S = TypeVar("S", bound="CoreSettings")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> object:
    """Read `250ms`, `30s`, `5m`, `24h`, `21d` or a bare number of seconds; leave anything else to pydantic."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", value.strip())
    if match is None:
        return value
    return timedelta(seconds=float(match[1]) * _UNITS[match[2] or "s"])


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]


class CoreSettings(BaseSettings):
    """What every process of the system needs to find Kafka and Redis and to agree on the layout."""

    model_config = SettingsConfigDict(
        env_prefix="AUDIENCE_", frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    secrets_dir: Path | None = Field(
        None,
        description="folder of files that are named like settings (AUDIENCE_PEPPER, …) and hold their values, as "
        "Kubernetes and Docker mount secrets; the environment has precedence",
    )
    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port, comma-separated")
    kafka_options: dict[str, Any] = Field(
        default_factory=dict,
        repr=False,
        description="librdkafka options as a JSON object, passed through to every Kafka client",
    )
    kafka_replication: int = Field(
        3, ge=1, description="replication factor of the topics; min in-sync replicas is one less, at least 1"
    )
    kafka_session_timeout: Duration = Field(
        timedelta(seconds=10), description="how long the group waits for a silent worker"
    )
    kafka_group_protocol: Literal["classic", "consumer"] = Field(
        "classic", description="classic (cooperative-sticky) or consumer (KIP-848)"
    )
    schema_registry_url: str | None = Field(
        None, description="Confluent Schema Registry; without one, Avro single-object encoding is written"
    )
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis address, rediss:// for TLS; with sentinels, its host is the name of the master",
    )
    redis_mode: Literal["standalone", "cluster", "sentinel"] = Field(
        "standalone", description="one server (or one address that follows failovers), Redis Cluster, or Sentinels"
    )
    redis_nodes: str = Field(
        "",
        description="Sentinels, or further nodes of the Redis Cluster to begin with: host:port, comma-separated",
    )
    redis_timeout: Duration = Field(timedelta(seconds=1), description="bound on every Redis call of a service")
    redis_connections: int = Field(
        64,
        ge=1,
        description="connections of one gateway or API to a standalone Redis; what comes on top waits for a free one",
    )
    shards: int = Field(64, ge=1, le=4096, description="partitions of the topics, and shards of the state")
    ordering_window: Duration = Field(
        timedelta(hours=24), description="for how long an older change that arrives late is recognised as older"
    )
    erasure_suppression: Duration = Field(
        timedelta(days=21), description="for how long changes of an erased visitor are dropped"
    )
    identity_erasure: bool = Field(
        True, description="index HMACs of identities, so that an erasure by e-mail or device id finds its visitors"
    )
    key_grace: Duration = Field(
        timedelta(hours=24), description="for how long a rotated API key works beside the new one; then it is revoked"
    )
    pepper: SecretStr = Field(
        SecretStr(""), description="secret mixed into the HMACs of API keys and identities; changing it voids both"
    )
    silence_after: Duration = Field(
        timedelta(hours=24),
        description="after how long without a message a connector counts as late; mParticle verifies outputs now and "
        "then, so one that works is not silent for a day",
    )
    tracing_endpoint: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="OTLP/HTTP collector that gets traces, like `http://collector:4318`; empty = no tracing",
    )
    tracing_ratio: float = Field(
        0.01, ge=0, le=1, description="share of the requests that are traced, of those that bring no `traceparent`"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto = console on a terminal, else JSON"
    )
    host: str = Field("0.0.0.0", description="address that the HTTP ports bind to")  # noqa: S104 - a container's port
    tls_certificate: Path | None = Field(
        None, description="PEM file with the certificate chain of gateway and segment API; without one they speak HTTP"
    )
    tls_key: Path | None = Field(None, description="PEM file with the private key of that certificate")
    trusted_proxies: str = Field(
        "127.0.0.1",
        description="addresses or networks, comma-separated, whose X-Forwarded-For and -Proto the console believes",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments first, then the environment, then the files of AUDIENCE_SECRETS_DIR."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, SecretsSettingsSource(settings_cls, secrets_dir=_secrets_dir())

    @property
    def redis_addresses(self) -> list[tuple[str, int]]:
        """(host, port) of each of `redis_nodes`."""
        parts = [node.strip().rpartition(":") for node in self.redis_nodes.split(",") if node.strip()]
        return [(host, int(port)) for host, _, port in parts]

    @model_validator(mode="after")
    def _knows_its_redis(self) -> Self:
        named = [node.strip() for node in self.redis_nodes.split(",") if node.strip()]
        if any(not re.fullmatch(r"\S+:\d{1,5}", node) for node in named):
            raise ValueError("AUDIENCE_REDIS_NODES has to be host:port, comma-separated")
        if self.redis_mode == "sentinel" and not named:
            raise ValueError("AUDIENCE_REDIS_MODE is sentinel, so AUDIENCE_REDIS_NODES has to name the Sentinels")
        return self

    @property
    def window_ms(self) -> int:
        return int(self.ordering_window.total_seconds() * 1000)

    @property
    def suppression_ms(self) -> int:
        return int(self.erasure_suppression.total_seconds() * 1000)

    def required_pepper(self) -> bytes:
        """Return the pepper, or raise SettingsError: without one, stored keys could be guessed offline."""
        pepper = self.pepper.get_secret_value()
        if len(pepper) < 16:  # noqa: PLR2004 - 16 characters is the least that resists guessing
            raise SettingsError("AUDIENCE_PEPPER is not set or shorter than 16 characters; set a long random secret")
        return pepper.encode()


def _secrets_dir() -> Path | None:
    named = os.environ.get("AUDIENCE_SECRETS_DIR")
    if not named:
        return None
    folder = Path(named)
    if not folder.is_dir():
        raise SettingsError(f"AUDIENCE_SECRETS_DIR names {folder}, which is no folder; mount the secrets there")
    return folder


def source_of(variable: str) -> Literal["environment", "file", "default"]:
    """Where a setting's value comes from. Raises SettingsError when AUDIENCE_SECRETS_DIR is no folder."""
    if os.environ.get(variable):
        return "environment"
    folder = _secrets_dir()
    names = {file.name.upper() for file in folder.iterdir()} if folder else set()
    return "file" if variable in names else "default"


def load(kind: type[S]) -> S:
    """Read settings from the environment, or raise SettingsError naming each wrong variable."""
    try:
        return kind()
    except SourceError as error:
        raise SettingsError(f"a variable is not the JSON object that it should be: {error}") from None
    except ValidationError as error:
        lines = [
            f"AUDIENCE_{str(problem['loc'][0]).upper()}: {problem['msg']}" if problem["loc"] else problem["msg"]
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError("; ".join(lines)) from None
