"""Options that every Kafka client shares."""

from typing import Any

from audience_core.settings import CoreSettings


def options(settings: CoreSettings, client: str) -> dict[str, Any]:
    """librdkafka options of one client; AUDIENCE_KAFKA_OPTIONS has the last word."""
    return {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "client.id": f"audience-{client}",
        "reconnect.backoff.max.ms": 2000,
        "log_level": 3,
        **settings.kafka_options,
    }
