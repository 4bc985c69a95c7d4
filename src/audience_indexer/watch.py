"""Measures the workers from outside: how far each shard is behind, and how full Redis is.

A worker that is gone or hangs can't tell its own lag. So the lag is taken here: each shard's log is asked for its
record at the offset that Redis holds. When there is one, its time says how old the oldest unapplied change is; when
there is none, all are applied. No group is joined, nothing is committed.
"""

import time
from collections.abc import Callable

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from prometheus_client import Gauge

from audience_core.errors import RetryableError
from audience_core.kafka.client import options
from audience_core.observability import metrics
from audience_core.observability.logging import get_logger
from audience_core.redis.connect import Redis
from audience_core.redis.shard_store import ShardStore
from audience_core.redis.usage import usage
from audience_core.topics import CHANGES
from audience_indexer.settings import IndexerSettings

log = get_logger()
_ANSWER_S = 3.0
_POLL_S = 0.2


def make_watch_consumer(settings: IndexerSettings) -> Consumer:
    """Make a consumer that is moved from one place of the changes topic to another, and fetches little at each."""
    return Consumer(
        {
            "group.id": "audience-indexer-watch",  # the client asks for a name; the group is never joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,
            "max.partition.fetch.bytes": 16_384,  # one record is enough
            "queued.min.messages": 1,
            **options(settings, "watch"),
        }
    )


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
        behind = self._behind(stored)
        for shard, offset in stored.items():
            metrics.SHARD_OFFSET.labels(str(shard)).set(offset or 0)
            if shard in behind:
                _report(shard, *behind[shard], measured_at)
            else:
                _forget(shard)

    def _behind(self, stored: dict[int, int | None]) -> dict[int, tuple[int, int]]:
        """Shard → (records from its stored offset on, time of the first in ms). (0, 0): the log ends there."""
        found: dict[int, tuple[int, int]] = {}
        self._consumer.assign(
            [TopicPartition(CHANGES, n, OFFSET_BEGINNING if offset is None else offset) for n, offset in stored.items()]
        )
        until = time.monotonic() + _ANSWER_S
        while len(found) < len(stored) and time.monotonic() < until:
            for message in self._consumer.consume(len(stored), timeout=_POLL_S):
                error, shard, offset = message.error(), message.partition(), message.offset()
                if shard is None or offset is None or shard in found:
                    continue
                if error is None:
                    # a queried end is not right on every broker; the one that came with the fetch is
                    _, end = self._consumer.get_watermark_offsets(TopicPartition(CHANGES, shard), cached=True)
                    found[shard] = (max(1, end - offset), message.timestamp()[1])
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
                    found[shard] = (0, 0)
        self._consumer.unassign()
        return found


def _report(shard: int, records: int, oldest_ms: int, measured_at: float) -> None:
    # a record that came after the stored offset was read is not late
    seconds = max(0.0, measured_at - oldest_ms / 1000) if records else 0.0
    metrics.SHARD_LAG_RECORDS.labels(str(shard)).set(records if seconds else 0)
    metrics.SHARD_LAG_SECONDS.labels(str(shard)).set(seconds)


def _forget(shard: int) -> None:
    metrics.SHARD_LAG_RECORDS.remove(str(shard))
    metrics.SHARD_LAG_SECONDS.remove(str(shard))
