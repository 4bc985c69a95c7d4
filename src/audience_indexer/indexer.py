"""The indexer's loop: read both compacted topics from their start, sum, write what changed.

It belongs to no group and reads every partition, so a restart knows everything again. A second indexer beside it
writes the same numbers, and more often: each takes the other's marks for a Redis that went back.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import nullcontext

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from audience_core.codec import Codec
from audience_core.domain.records import AudienceSubscription
from audience_core.errors import PoisonRecord, RedisUnavailable
from audience_core.kafka.client import options
from audience_core.kafka.consumer import fetch
from audience_core.observability import metrics
from audience_core.observability.logging import get_logger
from audience_core.observability.tracing import Tracing, is_traced
from audience_core.redis.catalog import holds, restore
from audience_core.redis.connect import Redis
from audience_core.redis.shard_store import Counts, ShardStore
from audience_core.redis.silence import count_late
from audience_core.topics import COUNTS, SUBSCRIPTIONS
from audience_indexer.history import HistoryWriter
from audience_indexer.last_states import LastStates
from audience_indexer.listing import ListingWriter, Total
from audience_indexer.settings import IndexerSettings
from audience_indexer.totals import Audience, Totals

log = get_logger()
_FETCH_S = 0.05
_FETCH = 2000
_SPAN = "write listing"
_TRACED = 200  # traced counts of one write that are looked at
_SETTLE_S = 2.0
"""Every count that a worker published before a snapshot of its shard has arrived after this long, or got lost."""


def make_consumer(settings: IndexerSettings) -> Consumer:
    """Make a consumer that reads every partition of both topics from its start."""
    consumer = Consumer(
        {
            "group.id": "audience-indexer",  # the client asks for a name; the group is never joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,
            **options(settings, "indexer"),
        }
    )
    consumer.assign(
        [
            TopicPartition(topic, partition, OFFSET_BEGINNING)
            for topic in (SUBSCRIPTIONS, COUNTS)
            for partition in range(settings.shards)
        ]
    )
    return consumer


class Indexer:
    """Keeps the listing equal to the sums. `stopping` is asked between batches."""

    def __init__(
        self,
        settings: IndexerSettings,
        *,
        consumer: Consumer,
        client: Redis,
        store: ShardStore,
        codec: Codec,
        last_states: LastStates,
        stopping: Callable[[], bool],
        tracing: Tracing | None = None,
    ) -> None:
        self._settings = settings
        self._silence_ms = int(settings.silence_after.total_seconds() * 1000)
        self._consumer = consumer
        self._client = client
        self._store = store
        self._codec = codec
        self._last_states = last_states
        self._stopping = stopping
        self._listing = ListingWriter(client)
        self._history = HistoryWriter(client)
        self._tracing = tracing
        self._traced: deque[Message] = deque(maxlen=_TRACED)
        self._totals = Totals()
        self._dirty: set[Audience] = set()
        self._unproven: set[Audience] = set()
        """to be looked for in Redis: what was written since the last look, and now and then everything"""
        self._unread = {(topic, n) for topic in (SUBSCRIPTIONS, COUNTS) for n in range(settings.shards)}
        self._check_at = self._compare_at = self._silence_at = 0.0
        self._snapshots: dict[int, tuple[Counts, int]] = {}
        self._oldest_unwritten = 0  # ms; 0 when all is written
        self.ready = False
        self.waiting_for: str | None = None
        self.last_turn = time.monotonic()

    def run(self) -> None:
        """Work until told to stop; while Redis is away, keep what is to be written."""
        while not self._stopping():
            self.last_turn = time.monotonic()
            self._read()
            if self._unread:
                continue
            self._last_states.publish()
            try:
                self._write()
            except RedisUnavailable as error:
                self.waiting_for = str(error)
                log.warning("retrying", error=str(error))
                time.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - jitter
            else:
                self.waiting_for = None

    def _read(self) -> None:
        for message in fetch(self._consumer, _FETCH, _FETCH_S):
            error = message.error()
            if error is None:
                self._oldest_unwritten = self._oldest_unwritten or message.timestamp()[1]
                value = message.value()
                self._take(value if isinstance(value, bytes) else None)
                # what is read at the start was traced long ago
                if self._tracing is not None and self.ready and is_traced(message):
                    self._traced.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
                self._unread.discard((message.topic() or "", message.partition() or 0))
            else:
                log.warning("fetch_failed", error=error.name())

    def _take(self, value: bytes | None) -> None:
        try:
            kind, record = self._codec.decode(value)
        except PoisonRecord as error:
            # a count is repeated by the next one, a subscription by the catalog: nothing is lost by going on
            metrics.INDEXER_RECORDS.labels("poison").inc()
            log.warning("undecodable", reason=error.reason)
            return
        if kind == "ShardCount":
            self._totals.count(record)
        elif kind == "AudienceSubscription":
            self._last_states.note(record, self._totals.subscribe(record))
        else:
            metrics.INDEXER_RECORDS.labels("poison").inc()
            return
        metrics.INDEXER_RECORDS.labels(kind).inc()
        self._dirty.add((record["account"], record["audience_id"]))

    def _write(self) -> None:
        now = time.monotonic()
        if now >= self._check_at:
            if self._listing.went_back() or self._lost_a_write():
                self._rebuild()
            self._check_at = now + self._settings.indexer_check_every.total_seconds()
            self._measure()
        if now >= self._compare_at:
            self._compare_at = now + self._compare()
        self._history.write_due()
        if self._dirty:
            with nullcontext() if self._tracing is None else self._tracing.following(_SPAN, self._traced):
                self._write_dirty()
            self._traced.clear()
        self._oldest_unwritten = 0
        self.ready = True
        if now >= self._silence_at:
            metrics.CONNECTORS_LATE.set(count_late(self._client, self._silence_ms))
            self._silence_at = now + self._settings.indexer_silence_every.total_seconds()

    def _write_dirty(self) -> None:
        totals = [self._total(audience) for audience in self._dirty]
        with self._listing.changing():
            self._restore_catalog(self._dirty)
            self._listing.write(totals)
        self._history.note(totals)
        self._unproven |= self._dirty
        self._dirty.clear()
        self._written()

    def _written(self) -> None:
        if self.ready and self._oldest_unwritten:  # what is read at the start was written long ago
            metrics.INDEXER_FRESHNESS.observe(max(0.0, time.time() - self._oldest_unwritten / 1000))

    def _measure(self) -> None:
        totals = [self._totals.total(audience) for audience in self._totals.subscriptions]
        metrics.INDEXER_AUDIENCES.set(sum(total > 0 for total in totals))
        metrics.INDEXER_MEMBERSHIPS.set(sum(totals))

    def _lost_a_write(self) -> bool:
        """Whether something is missing that was written since the last look, though the mark is right."""
        written = self._unproven - self._dirty  # the others are written again in any case
        if not written:
            return False
        kept = holds(self._client, self._subscriptions_of(written))
        kept = kept and self._listing.holds([self._total(audience) for audience in written])
        if kept:
            self._unproven.clear()
        return not kept

    def _rebuild(self) -> None:
        """Redis is new, was emptied or went back: catalog, counts and listing are written from what is known."""
        self._snapshots = {}
        with self._listing.changing():
            for shard, snapshot in self._read_snapshots().items():
                self._totals.replace_shard(shard, *snapshot, reached=snapshot[1])
            self._unproven = self._known()
            self._restore_catalog(self._totals.subscriptions)
            self._listing.rewrite([self._total(audience) for audience in self._known()])
        self._dirty.clear()
        log.info("listing_rebuilt", audiences=len(self._totals.subscriptions))

    def _restore_catalog(self, audiences: Iterable[Audience]) -> None:
        for state in self._subscriptions_of(audiences):
            restore(self._client, state)

    def _subscriptions_of(self, audiences: Iterable[Audience]) -> list[AudienceSubscription]:
        known = self._totals.subscriptions
        return [known[audience] for audience in audiences if audience in known]

    def _compare(self) -> float:
        """Take the shards' own counts, and at the next call compare: counts under way then are no drift. Returns the
        seconds until the next call."""
        if not self._snapshots:
            self._snapshots = self._read_snapshots()
            return _SETTLE_S
        changed: set[Audience] = set()
        reached = self._store.offsets(list(self._snapshots))
        for shard, snapshot in self._snapshots.items():
            changed |= self._totals.replace_shard(shard, *snapshot, reached=reached[shard] or 0)
        self._snapshots = {}
        self._unproven = self._known()  # one node of a Redis Cluster may go back and leave the mark of another
        self._dirty |= changed
        metrics.INDEXER_DRIFTED.set(len(changed))
        return self._settings.indexer_compare_every.total_seconds()

    def _read_snapshots(self) -> dict[int, tuple[Counts, int]]:
        return {shard: self._store.snapshot(shard) for shard in range(self._settings.shards)}

    def _known(self) -> set[Audience]:
        return set(self._totals.subscriptions) | set(self._totals.counts)

    def _total(self, audience: Audience) -> Total:
        return (*audience, self._totals.total(audience))
