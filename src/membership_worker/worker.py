"""The worker's loop: fetch, then for each shard decode → send to Redis; receive → publish counts; commit last.

While Redis applies one batch, the next is fetched, decoded and sent; the fence keeps their order. Whatever fails, its
shard is read again from the offset that Redis holds.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from confluent_kafka import Consumer, Message

from audience_core.codec import Codec
from audience_core.errors import FencedError, RetryableError
from audience_core.kafka.consumer import fetch, known_end
from audience_core.kafka.producer import RecordProducer
from audience_core.observability import metrics
from audience_core.observability.logging import get_logger
from audience_core.observability.tracing import Tracing, Work
from audience_core.redis.shard_store import Applied, Sending, ShardStore
from audience_core.topics import CHANGES
from membership_worker.catching_up import CatchingUp
from membership_worker.counts import EVERY_S
from membership_worker.decode import PoisonLimit, decode
from membership_worker.fetch_failures import FetchFailures
from membership_worker.patience import Patience
from membership_worker.publishing import Publishing, observe
from membership_worker.settings import WorkerSettings
from membership_worker.shard import Shard
from membership_worker.shards import Shards

log = get_logger()
_FETCH_S = 0.1
_AHEAD = 2
"""batches that may be with Redis at a time: one that it applies, and one that follows without a pause"""
_LOOK_EVERY_S = 1.0
_SPAN = f"process {CHANGES}"
_ASSIGN, _READ, _DECODE, _APPLY, _COMMIT = (
    metrics.WORKER_STEP.labels(step) for step in ("assign", "read", "decode", "apply", "commit")
)


@dataclass
class _Sent:
    """A batch that Redis was sent and has not answered."""

    shard: Shard
    next_offset: int
    records: int
    oldest: int
    sending: Sending
    work: Work | None
    """its span, when the batch is traced"""


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
        self._codec = codec
        self._topic_id = topic_id
        self._progress = shards.progress
        self._stopping = stopping
        self._tracing = tracing
        self._sent: deque[_Sent] = deque()
        self._applied: dict[int, int] = {}
        self._poison = PoisonLimit(settings.poison_ratio, settings.poison_window)
        self._failures = FetchFailures()
        self._look_at = self._finish_at = 0.0
        self._patiently = Patience(consumer, shards, stopping, self._failures.note)
        self._publishing = Publishing(store, producer, codec, settings.shards, self._patiently)
        self._catching_up = CatchingUp(partial(known_end, consumer, CHANGES))

    def run(self) -> None:
        """Work until told to stop. Raises PermanentError when going on would corrupt or throw away."""
        self._shards.subscribe()
        while not self._stopping():
            self._progress.turn()
            if self._shards.rebalanced:
                self._patiently(self._shards.fetch_anew)
            if self._shards.waiting:
                self._take_waiting()
            with _READ.time():
                batches = self._fetch(0 if self._publishing.owing or self._sent else _FETCH_S)
            shards = dict(self._shards.taken)
            for number, messages in batches.items():
                if number in shards:
                    self._work(shards[number], messages)
            if not batches:
                self._receive(leave=0)
            self._finish(at_once=not batches)
            self._look_around()
            self._publishing.publish_owed(self._shards.taken)
        self._receive(leave=0)
        self._finish(at_once=True)

    def _finish(self, *, at_once: bool) -> None:
        """Publish and mirror what was applied, in a pause or when it has waited for long enough."""
        now = time.monotonic()
        if not at_once and now < self._finish_at:
            return
        self._finish_at = now + EVERY_S
        self._publishing.publish()
        if self._applied:
            with _COMMIT.time():
                self._shards.commit(self._applied)
            self._applied = {}

    def _take_waiting(self) -> None:
        self._receive(leave=0)  # one of them may have been ours a moment ago
        with _ASSIGN.time():
            taken = self._patiently(self._shards.take_waiting)
        if taken:
            self._publishing.owe(shard.number for shard in taken)
            log.info("shards_taken", shards={shard.number: shard.stored for shard in taken})

    def _fetch(self, timeout: float) -> dict[int, list[Message]]:
        batches: dict[int, list[Message]] = defaultdict(list)
        for message in fetch(self._consumer, self._settings.worker_batch, timeout):
            error = message.error()
            number = message.partition()
            if error is None and number is not None:
                batches[number].append(message)
            else:
                self._failures.note(message)
        return batches

    def _work(self, shard: Shard, messages: list[Message]) -> None:
        """One batch of one shard. A shard that was revoked or is read again meanwhile is left alone."""
        number = shard.number
        if self._shards.taken.get(number) is not shard:
            return
        if not shard.continues_at(messages[0].offset() or 0):
            self._read_again(shard)
            return
        work = None if self._tracing is None else self._tracing.begin(_SPAN, messages)
        sent = None
        try:
            sent = self._send(shard, messages, work)
        finally:
            if sent is None and work is not None:
                work.end()
        if sent is not None:
            self._sent.append(sent)
            self._receive(leave=_AHEAD)

    def _send(self, shard: Shard, messages: list[Message], work: Work | None) -> _Sent | None:
        number = shard.number
        with _DECODE.time():
            batch = self._patiently(lambda: decode(self._codec, messages))
        if batch is None or not self._publishing.bury(batch.letters, number):
            return None
        self._poison.add(len(batch.letters), len(messages))
        next_offset = (messages[-1].offset() or 0) + 1
        with _APPLY.time():
            sending = self._patiently(
                lambda: self._store.send(number, self._topic_id, shard.stored, next_offset, batch.operations)
            )
        if sending is None:
            return None
        shard.stored = shard.position = next_offset
        return _Sent(shard, next_offset, len(messages), batch.oldest, sending, work)

    def _read_again(self, shard: Shard) -> None:
        log.warning("records_left_out", shard=shard.number, expected=shard.position)
        self._receive(leave=0)
        self._patiently(lambda: self._shards.rewind(shard.number))

    def _receive(self, leave: int) -> None:
        """Take answers until no more than `leave` are due. After a failure take all, and read its shard again."""
        failed: dict[int, RetryableError | FencedError] = {}
        while self._sent and (failed or len(self._sent) > leave):
            sent = self._sent.popleft()
            try:
                with _APPLY.time():
                    applied = self._store.receive(sent.sending)
            except (RetryableError, FencedError) as error:
                failed.setdefault(sent.shard.number, error)
            else:
                self._note(sent, applied)
            finally:
                if sent.work is not None:
                    sent.work.end()
        for number, failure in failed.items():
            self._resync(number, failure)

    def _note(self, sent: _Sent, applied: Applied) -> None:
        number = sent.shard.number
        self._patiently.worked()
        self._applied[number] = sent.next_offset
        self._shards.moved(number, sent.next_offset)
        observe(applied, sent.records, sent.oldest)
        self._catching_up.applied(sent.records, applied)
        self._publishing.note(number, applied, sent.next_offset, None if sent.work is None else sent.work.header)

    def _resync(self, number: int, error: RetryableError | FencedError) -> None:
        """Redis went back (stored is lower: read again from there), or it is ahead of us: another worker, or our own
        call that timed out after it ran. Its counts and receipts may never have been published, so publish all."""
        if isinstance(error, FencedError):
            behind = error.stored is None or (error.expected is not None and error.stored < error.expected)
            metrics.WORKER_FENCED.labels("behind" if behind else "ahead").inc()
            log.warning("fenced", shard=number, expected=error.expected, stored=error.stored)
        else:
            metrics.WORKER_RETRIES.inc()
            log.warning("retrying", shard=number, error=str(error))
            self._patiently.pause(error)
        self._patiently(lambda: self._shards.rewind(number))
        self._publishing.publish_whole(number)

    def _look_around(self) -> None:
        """A Redis that went back is noticed by the next batch; a shard that gets no records must not wait for one."""
        if (now := time.monotonic()) < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY_S
        self._receive(leave=0)
        while self._failures.out_of_range:
            self._patiently(partial(self._shards.out_of_range, self._failures.out_of_range.pop()))
        for shard in self._shards.left_out():
            self._read_again(shard)
        stored = self._patiently(lambda: self._store.offsets(list(self._shards.taken))) or {}
        for number, offset in stored.items():
            taken = self._shards.taken.get(number)
            if taken is not None and taken.stored != offset:
                self._resync(number, FencedError(number, taken.stored, offset))
        self._catching_up.look(self._shards.taken, time.monotonic())
