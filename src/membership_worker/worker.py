"""The worker's loop: fetch, then for each shard decode → apply → publish counts; commit last."""

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, Message
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from audience_core.codec import Codec
from audience_core.domain.partitioning import audience_key, count_key, shard_of
from audience_core.domain.records import ShardCount
from audience_core.errors import FencedError, PoisonRecord, ProducerQueueFull, RetryableError
from audience_core.kafka.consumer import fetch
from audience_core.kafka.producer import Outgoing, RecordProducer
from audience_core.observability import metrics
from audience_core.observability.logging import get_logger
from audience_core.observability.tracing import Tracing
from audience_core.redis.shard_store import Applied, Counts, Operation, ShardStore
from audience_core.topics import CHANGES, COUNTS
from membership_worker.decode import PoisonLimit, dead_letter, decode
from membership_worker.receipts import Receipts
from membership_worker.settings import WorkerSettings
from membership_worker.shards import Shards

log = get_logger()
T = TypeVar("T")
_FETCH_S = 0.1
_ACK_S = 10.0
_LOOK_EVERY_S = 1.0
_SPAN = f"process {CHANGES}"
_ASSIGN, _READ, _DECODE, _APPLY, _PUBLISH, _COMMIT = (
    metrics.WORKER_STEP.labels(step) for step in ("assign", "read", "decode", "apply", "publish", "commit")
)


@dataclass
class _Batch:
    operations: list[Operation]
    letters: list[Outgoing]
    oldest: int
    """received_at of the first record, ms; 0 when none can be read"""


class Worker:
    """Applies the shards that the group assigns to it. `stopping` is asked between batches."""

    def __init__(  # noqa: PLR0913 - its parts, passed in by main alone
        self,
        settings: WorkerSettings,
        *,
        consumer: Consumer,
        shards: Shards,
        store: ShardStore,
        producer: RecordProducer,
        codec: Codec,
        topic_id: str,
        stopping: Callable[[], bool],
        tracing: Tracing | None = None,
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._shards = shards
        self._store = store
        self._producer = producer
        self._receipts = Receipts(store.receipts, producer, codec, settings.shards)
        self._codec = codec
        self._topic_id = topic_id
        self._progress = shards.progress
        self._stopping = stopping
        self._tracing = tracing
        self._poison = PoisonLimit(settings.poison_ratio, settings.poison_window)
        self._out_of_range: set[int] = set()
        self._look_at = 0.0
        self._unpublished: list[int] = []
        """shards whose counts and receipts are still to be published whole, since they were taken"""

    def run(self) -> None:
        """Work until told to stop. Raises PermanentError when going on would corrupt or throw away."""
        self._shards.subscribe()
        while not self._stopping():
            self._progress.turn()
            if self._shards.waiting:
                self._take_waiting()
            with _READ.time():
                batches = self._fetch(0 if self._unpublished else _FETCH_S)
            for number, messages in batches.items():
                with nullcontext() if self._tracing is None else self._tracing.following(_SPAN, messages):
                    self._work(number, messages)
            if batches:
                with _COMMIT.time():
                    self._shards.commit(list(batches))
            self._notice_lost_state()
            # one a turn: many shards with many audiences must not hold up the first changes after a rebalance
            if self._unpublished and (number := self._unpublished.pop()) in self._shards.taken:
                self._publish_snapshot(number)
                self._patiently(partial(self._receipts.publish, number))

    def _take_waiting(self) -> None:
        with _ASSIGN.time():
            taken = self._patiently(self._shards.take_waiting)
        if taken:
            self._unpublished += [shard.number for shard in taken]
            log.info("shards_taken", shards={shard.number: shard.stored for shard in taken})

    def _fetch(self, timeout: float) -> dict[int, list[Message]]:
        batches: dict[int, list[Message]] = defaultdict(list)
        for message in fetch(self._consumer, self._settings.worker_batch, timeout):
            error = message.error()
            number = message.partition()
            if error is None and number is not None:
                batches[number].append(message)
            else:
                self._note_failure(message)
        return batches

    def _note_failure(self, message: Message) -> None:
        error, number = message.error(), message.partition()
        if error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - its only name
            self._out_of_range.add(number or 0)
        elif error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
            log.warning("fetch_failed", error=error.name(), shard=number)

    def _work(self, number: int, messages: list[Message]) -> None:
        """One batch of one shard. A shard that was revoked meanwhile is left to its next owner."""
        shard = self._shards.taken.get(number)
        if shard is None:
            return
        if not shard.continues_at(messages[0].offset() or 0):
            log.warning("records_left_out", shard=number, expected=shard.position, found=messages[0].offset())
            self._patiently(lambda: self._shards.rewind(number))
            return
        with _DECODE.time():
            batch = self._patiently(lambda: self._decode(messages))
        if batch is None or not self._bury(batch.letters, number):
            return
        for is_poison in [True] * len(batch.letters) + [False] * len(batch.operations):
            self._poison.add(poison=is_poison)
        next_offset = (messages[-1].offset() or 0) + 1
        try:
            with _APPLY.time():
                applied = self._patiently(
                    lambda: self._store.apply(number, self._topic_id, shard.stored, next_offset, batch.operations)
                )
        except FencedError as fence:
            self._resync(fence)
            return
        if applied is None:
            return
        self._shards.moved(shard, next_offset)
        _observe(applied, len(messages), batch.oldest)
        self._publish(number, applied.counts, next_offset)
        if applied.receipts:
            self._patiently(partial(self._receipts.publish, number))

    def _decode(self, messages: list[Message]) -> _Batch:
        """Raises RetryableError when a schema registry is configured and away."""
        batch = _Batch([], [], 0)
        for message in messages:
            value = message.value()
            try:
                operation, received_at = decode(
                    self._codec, value if isinstance(value, bytes) else None, message.offset() or 0
                )
            except PoisonRecord as error:
                batch.letters.append(dead_letter(self._codec, message, error))
            else:
                batch.operations.append(operation)
                batch.oldest = batch.oldest or received_at
        return batch

    def _bury(self, letters: list[Outgoing], number: int) -> bool:
        """A dead letter must be durable before the offset moves past its record; False when told to stop first."""
        if not letters:
            return True
        log.warning("dead_letters", count=len(letters), shard=number)

        def send() -> bool:
            self._producer.send_and_wait(letters, _ACK_S)
            return True

        return self._patiently(send) is not None

    def _resync(self, fence: FencedError) -> None:
        """Redis went back (stored is lower: read again from there), or it is ahead of us: another worker, or our own
        call that timed out after it ran. Its counts may never have been published, so publish all of them."""
        behind = fence.stored is None or (fence.expected is not None and fence.stored < fence.expected)
        metrics.WORKER_FENCED.labels("behind" if behind else "ahead").inc()
        log.warning("fenced", shard=fence.shard, expected=fence.expected, stored=fence.stored)
        self._patiently(lambda: self._shards.rewind(fence.shard))
        self._publish_snapshot(fence.shard)

    def _notice_lost_state(self) -> None:
        """A Redis that went back is noticed by the next batch; a shard that gets no records must not wait for one."""
        if (now := time.monotonic()) < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY_S
        while self._out_of_range:
            self._patiently(partial(self._shards.out_of_range, self._out_of_range.pop()))
        stored = self._patiently(lambda: self._store.offsets(list(self._shards.taken))) or {}
        for number, offset in stored.items():
            shard = self._shards.taken.get(number)
            if shard is not None and shard.stored != offset:
                self._resync(FencedError(number, shard.stored, offset))

    def _publish_snapshot(self, number: int) -> None:
        snapshot = self._patiently(lambda: self._store.snapshot(number))
        if snapshot is not None:
            self._publish(number, *snapshot)

    def _publish(self, number: int, counts: Counts, offset: int) -> None:
        header = None if self._tracing is None else self._tracing.header()
        records = [self._count(number, key, count, offset, header) for key, count in counts.items()]
        for first in range(0, len(records), 1000):
            part = records[first : first + 1000]
            with _PUBLISH.time():
                self._patiently(partial(self._producer.send, part, _count_settled))

    def _count(
        self, number: int, audience: tuple[str, int, int], count: int, offset: int, header: bytes | None
    ) -> Outgoing:
        account, audience_id, epoch = audience
        record = ShardCount(
            account=account, audience_id=audience_id, epoch=epoch, shard=number, count=count, offset=offset
        )
        return Outgoing(
            COUNTS,
            shard_of(audience_key(account, audience_id), self._settings.shards),
            count_key(account, audience_id, epoch, number),
            self._codec.encode("ShardCount", record),
            header,
        )

    def _patiently(self, attempt: Callable[[], T]) -> T | None:
        """Try until it works, with jitter, keeping the membership alive; None when the worker is told to stop first."""
        retrying = Retrying(
            retry=retry_if_exception_type(RetryableError),
            wait=wait_random_exponential(multiplier=0.1, max=3),
            sleep=self._keep_alive,
            before_sleep=self._note_retry,
            stop=lambda _: self._stopping(),
            retry_error_callback=lambda _: None,
        )
        result = retrying(attempt)
        self._progress.waits_for(None)
        return result

    def _note_retry(self, state: RetryCallState) -> None:
        metrics.WORKER_RETRIES.inc()
        error = state.outcome.exception() if state.outcome else None
        self._progress.waits_for(str(error))
        if not isinstance(error, ProducerQueueFull):
            log.warning("retrying", attempt=state.attempt_number, error=str(error))

    def _keep_alive(self, seconds: float) -> None:
        """Sleep as a member of the group: poll, but fetch nothing."""
        self._shards.pause()
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopping():
            self._progress.turn()
            message = self._consumer.poll(min(left, 0.2))
            if message is not None:  # a record that comes all the same is missed by its shard, which reads it again
                self._note_failure(message)
        self._shards.resume()


def _count_settled(error: KafkaError | None) -> None:
    # the next count of the audience, the next assignment or the indexer's own check repairs it
    if error is not None:
        log.warning("counts_not_published", error=error.name())


def _observe(applied: Applied, records: int, oldest: int) -> None:
    metrics.WORKER_RECORDS.inc(records)
    for outcome in ("entered", "left", "unchanged", "stale", "suppressed"):
        metrics.WORKER_CHANGES.labels(outcome).inc(getattr(applied, outcome))
    metrics.WORKER_ERASED.inc(applied.erased)
    if oldest:
        metrics.WORKER_FRESHNESS.observe(max(0.0, time.time() - oldest / 1000))
