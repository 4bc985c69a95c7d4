"""The group's consumer."""

from confluent_kafka import Consumer

from audience_core.kafka.client import options
from membership_worker.settings import WorkerSettings

# how soon a member hears of a rebalance: while the group waits for it, shards on their way are read by nobody
_HEARTBEAT_MS = 500


def make_consumer(settings: WorkerSettings) -> Consumer:
    """Make the group's consumer; it joins when it subscribes."""
    config = {
        "group.id": settings.worker_group,
        "group.protocol": settings.kafka_group_protocol,
        "enable.auto.commit": False,
        # never used: a shard is always read from the offset in Redis; a fetch outside the log must be an error
        "auto.offset.reset": "error",
        "fetch.wait.max.ms": 50,
    }
    if settings.kafka_group_protocol == "classic":
        timeout_ms = int(settings.kafka_session_timeout.total_seconds() * 1000)
        config |= {
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": timeout_ms,
            "heartbeat.interval.ms": max(100, min(_HEARTBEAT_MS, timeout_ms // 4)),
        }
    return Consumer({**config, **options(settings, "worker")})
