"""Measures the workers from outside: how far each shard is behind, and how full Redis is.

A worker that is gone or hangs can't tell its own lag, so it is taken here.
"""

import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaException
from prometheus_client import Gauge

from audience_core.errors import RetryableError
from audience_core.kafka.lag import Behind, measure
from audience_core.observability import metrics
from audience_core.observability.logging import get_logger
from audience_core.redis.connect import Redis
from audience_core.redis.shard_store import ShardStore
from audience_core.redis.usage import usage
from audience_indexer.settings import IndexerSettings

log = get_logger()
_POLL_S = 0.2


class Watch:
    """Sets the `audience_shard_` and `audience_redis_` gauges; what can't be measured now has no value."""

    def __init__(self, settings: IndexerSettings, *, consumer: Consumer, client: Redis, store: ShardStore) -> None:
        self._shards = range(settings.shards)
        self._every = settings.indexer_measure_every.total_seconds()
        self._consumer = consumer
        self._client = client
        self._store = store

    def run(self, stopping: Callable[[], bool]) -> None:
        """Measure again and again until told to stop, then close the consumer."""
        while not stopping():
            started = time.monotonic()
            self._guarded(self.measure_redis, metrics.REDIS_GAUGES)
            self._guarded(self.measure_shards, metrics.SHARD_GAUGES)
            while not stopping() and time.monotonic() < started + self._every:
                time.sleep(min(_POLL_S, self._every))
        self._consumer.close()

    def _guarded(self, measure: Callable[[], None], gauges: tuple[Gauge, ...]) -> None:
        """A measurement that fails leaves no value behind: an old one would look like a good one."""
        try:
            measure()
        except (RetryableError, KafkaException) as error:
            log.warning("not_measured", error=str(error))
        except Exception:  # a right that is missing, for example: the other measurement must go on
            log.exception("not_measured")
        else:
            return
        for gauge in gauges:
            gauge.clear()

    def measure_redis(self) -> None:
        """Measure once how full each node is. Raises RedisUnavailable."""
        for node, used in usage(self._client).items():
            metrics.REDIS_MEMORY.labels(node).set(used.memory)
            metrics.REDIS_LIMIT.labels(node).set(used.limit)
            metrics.REDIS_EVICTED.labels(node).set(used.evicted)
            metrics.REDIS_OPERATIONS.labels(node).set(used.operations)

    def measure_shards(self) -> None:
        """Measure once how far each shard is behind. Raises RedisUnavailable, KafkaException."""
        stored = {shard: at.offset if (at := self._store.locate(shard)) else None for shard in self._shards}
        measured_at = time.time()
        behind = measure(self._consumer, stored)
        for shard, offset in stored.items():
            metrics.SHARD_OFFSET.labels(str(shard)).set(offset or 0)
            if shard in behind:
                _report(shard, behind[shard], measured_at)
            else:
                _forget(shard)


def _report(shard: int, behind: Behind, measured_at: float) -> None:
    # a record that came after the stored offset was read is not late
    seconds = behind.seconds(measured_at)
    metrics.SHARD_LAG_RECORDS.labels(str(shard)).set(behind.records if seconds else 0)
    metrics.SHARD_LAG_SECONDS.labels(str(shard)).set(seconds)


def _forget(shard: int) -> None:
    metrics.SHARD_LAG_RECORDS.remove(str(shard))
    metrics.SHARD_LAG_SECONDS.remove(str(shard))
