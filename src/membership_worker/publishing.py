"""What a worker tells others: absolute counts, dead letters, receipts of erasures, metrics."""

import time
from collections.abc import Container, Iterable
from functools import partial

from confluent_kafka import KafkaError

from audience_core.codec import Codec
from audience_core.kafka.producer import Outgoing, RecordProducer
from audience_core.observability import metrics
from audience_core.observability.logging import get_logger
from audience_core.redis.shard_store import Applied, ShardStore
from membership_worker.counts import PendingCounts
from membership_worker.patience import Patience
from membership_worker.receipts import Receipts

log = get_logger()
_ACK_S = 10.0
_AT_ONCE = 1000
_PUBLISH = metrics.WORKER_STEP.labels("publish")


class Publishing:
    """Publishes, for as long as it takes: `patiently`."""

    def __init__(
        self, store: ShardStore, producer: RecordProducer, codec: Codec, shards: int, patiently: Patience
    ) -> None:
        self._store = store
        self._producer = producer
        self._receipts = Receipts(store.receipts, producer, codec, shards)
        self._counts = PendingCounts(codec, shards)
        self._patiently = patiently
        self._owed: list[int] = []

    def note(self, number: int, applied: Applied, next_offset: int, header: bytes | None) -> None:
        """Note what a batch has changed; publish the receipts at once. `header` names the trace to be continued."""
        self._counts.add(number, applied.counts, next_offset, header)
        if applied.receipts:
            self._patiently(partial(self._receipts.publish, number))

    def owe(self, numbers: Iterable[int]) -> None:
        """Note shards that were taken: their counts and receipts are to be published whole."""
        self._owed += numbers

    @property
    def owing(self) -> bool:
        """Whether some shard is still to be published whole."""
        return bool(self._owed)

    def publish_owed(self, taken: Container[int]) -> None:
        """Publish one of the shards that are owed, if it is still ours. Not all at once: after a rebalance many with
        many audiences must not hold up the first changes."""
        if self._owed and (number := self._owed.pop()) in taken:
            self.publish_whole(number)

    def publish_whole(self, number: int) -> None:
        """All counts and receipts of a shard, whoever has applied what led to them."""
        snapshot = self._patiently(lambda: self._store.snapshot(number))
        if snapshot is not None:
            self._counts.replace(number, *snapshot)
            self.publish()
        self._patiently(partial(self._receipts.publish, number))

    def bury(self, letters: list[Outgoing], number: int) -> bool:
        """Dead letters must be durable before the offset moves past their records; False when told to stop first."""
        if not letters:
            return True
        log.warning("dead_letters", count=len(letters), shard=number)

        def send() -> bool:
            self._producer.send_and_wait(letters, _ACK_S)
            return True

        return self._patiently(send) is not None

    def publish(self) -> None:
        """Publish the counts that were noted."""
        records = self._counts.take()
        for first in range(0, len(records), _AT_ONCE):
            part = records[first : first + _AT_ONCE]
            with _PUBLISH.time():
                self._patiently(partial(self._producer.send, part, _count_settled))


def _count_settled(error: KafkaError | None) -> None:
    # the next count of the audience, the next assignment or the indexer's own check repairs it
    if error is not None:
        log.warning("counts_not_published", error=error.name())


def observe(applied: Applied, records: int, oldest: int) -> None:
    """Count a batch. `oldest`: when its first record was received, ms; 0 = unknown."""
    metrics.WORKER_RECORDS.inc(records)
    for outcome in ("entered", "left", "unchanged", "stale", "suppressed"):
        metrics.WORKER_CHANGES.labels(outcome).inc(getattr(applied, outcome))
    metrics.WORKER_ERASED.inc(applied.erased)
    if oldest:
        metrics.WORKER_FRESHNESS.observe(max(0.0, time.time() - oldest / 1000))
