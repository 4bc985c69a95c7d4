"""The consumer group's side: which shards this worker owns, and from which offset each is read.

A rebalance only notes what is assigned; a shard is fetched once its offset is known from Redis, so no call inside a
rebalance ever waits for Redis. Kafka's own committed offsets are a mirror for lag tools and are never read.
"""

import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaException, TopicPartition

from audience_core.errors import KafkaUnavailable, RetryableError, ShardRefused
from audience_core.observability import metrics
from audience_core.observability.logging import get_logger
from audience_core.redis.shard_store import ShardStore
from audience_core.topics import CHANGES
from membership_worker.progress import Progress
from membership_worker.shard import OUTSIDE_S, Shard, locate
from membership_worker.topic_watch import TopicWatch

log = get_logger()
_ASK_STARTS_AGAIN_S = 5.0
_QUIET_S = 0.1  # what follows the answer to a callback is there within milliseconds
_LEAVE_S = 2.0


class Shards:
    """Shards that the group gave to this worker."""

    def __init__(
        self,
        consumer: Consumer,
        store: ShardStore,
        topic_id: str,
        *,
        starts: Callable[[list[int]], dict[int, int]],
        progress: Progress,
        accept_partial: bool,
        watch: TopicWatch,
    ) -> None:
        """`starts` gives the offset at which each shard's log begins, if it has a leader, and raises RetryableError."""
        self._consumer = consumer
        self._store = store
        self._topic_id = topic_id
        self._starts = starts
        self.progress = progress
        self._accept_partial = accept_partial
        self._watch = watch
        self._waiting: set[int] = set()
        self._ask_starts_at = 0.0
        self.rebalanced = False
        """whether a rebalance came since the last `fetch_anew`"""
        self.taken: dict[int, Shard] = {}

    def subscribe(self) -> None:
        """Join the group."""
        self._consumer.subscribe([CHANGES], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def close(self, *, classic: bool, static: bool = False) -> None:
        """Leave the group, but as a `static` member stay in it, and close the consumer."""
        if not static:
            self.leave(classic=classic)
        self._consumer.close()

    def leave(self, *, classic: bool) -> None:
        """Leave the group and answer the callbacks of that, for two seconds at most; `classic` is the group's protocol.

        `Consumer.close` alone may wait forever and let no other thread run. When shards arrived just before it, it
        calls two callbacks, but librdkafka waits for the first one's answer only, and drops what the second one asks of
        a group that has ended meanwhile. A consumer that has left finds no callback to call.
        """
        until = time.monotonic() + _LEAVE_S
        try:
            self.pause()
            self._consumer.consume(1000, timeout=0)  # answers what has come; records are nobody's by now
            if self._consumer.memberid() is None:
                return  # its session ended, say
            self._consumer.unsubscribe()  # in the midst of a classic rebalance, it takes effect after that
            self.rebalanced = True
            # closed before its commits are answered, a classic member would not leave; once it left, it has no id
            while (self.rebalanced or (classic and self._consumer.memberid())) and time.monotonic() < until:
                self.rebalanced = False
                self._consumer.consume(1000, timeout=_QUIET_S)
        except KafkaException as error:
            log.debug("group_not_left", error=error.args[0].name())

    @property
    def waiting(self) -> bool:
        """Whether some shard is assigned, but not read yet. Raises ShardRefused when the topic was recreated."""
        self._watch.check()
        return bool(self._waiting)

    def fetch_anew(self) -> None:
        """After a rebalance, fetch what was kept anew from where it stands; to be called with no record in hand.

        The client pauses all while a rebalance waits for its callback. An assignment of ours that comes just then, of
        shards that waited or are read again, may be taken for the callback's answer before the pause has begun: then
        nobody ends it. Raises KafkaUnavailable.
        """
        self.resume()  # while the client paused and resumed by itself, one of ours may have been passed over
        self._assign_anew([TopicPartition(CHANGES, number, shard.position) for number, shard in self.taken.items()])
        self.rebalanced = False

    def take_waiting(self) -> list[Shard]:
        """Begin to read all that is assigned but not read yet. Raises RetryableError, ShardRefused."""
        numbers = sorted(self._waiting)
        # all at once, and not through the consumer: there, each question would wait for a fetch of up to 50 ms
        starts = self._told_starts(numbers)
        self._watch.ask()
        found = [self._locate(number, starts.get(number)) for number in numbers]
        self._consumer.incremental_assign([TopicPartition(CHANGES, shard.number, shard.position) for shard in found])
        self._waiting.clear()
        for shard in found:
            self.taken[shard.number] = shard
            self.progress.stands(shard.number, shard.position)
            metrics.WORKER_OFFSET.labels(str(shard.number)).set(shard.position)
        metrics.WORKER_SHARDS.set(len(self.taken))
        return found

    def moved(self, number: int, offset: int) -> None:
        """Note that a shard is applied up to `offset`."""
        if number in self.taken:  # a revoke while Redis was away has ended its story here
            self.taken[number].outside_since = None
            self.progress.stands(number, offset)
            metrics.WORKER_OFFSET.labels(str(number)).set(offset)

    def rewind(self, number: int) -> bool:
        """Read a shard again from the offset that Redis holds now. Returns whether Kafka told where its log begins."""
        low = None
        if number in self.taken:
            low = self._told_starts([number]).get(number)
            self._watch.ask()
            shard = self._locate(number, low)
            self._assign_anew([TopicPartition(CHANGES, number, shard.position)])
            shard.hole = self.taken[number].hole
            self.taken[number] = shard
            self.progress.stands(number, shard.position)
        return low is not None

    def left_out(self) -> list[Shard]:
        """Shards of which the client gave out records that were not worked on, as a poll beside the fetch does; asked
        when nothing is in hand. A later record shows it too, but there may be none for long."""
        positions = {found.partition: found.offset for found in self._consumer.position(self._partitions())}
        return [shard for number, shard in self.taken.items() if positions.get(number, 0) > shard.position]

    def out_of_range(self, number: int) -> None:
        """The log has no record at the offset that Redis holds: a fetch tells so reliably, a query does not.

        While leaders are elected a fetch may fail so by mistake, so the shard is read again for a while. Raises
        ShardRefused after that, unless retention went past us and a partial rebuild was accepted.
        """
        shard = self.taken.get(number)
        if shard is None:
            return  # it was given up since
        told = self.rewind(number)
        again = self.taken[number]
        if again.position > shard.position:
            return
        again.outside_since, again.outside_at = shard.outside_since, shard.outside_at
        # while its leader is missing, what was said may be an older leader's word
        if not told or again.outside(time.monotonic()) < OUTSIDE_S:
            log.warning("offset_not_found", shard=number, offset=shard.position)
            return
        raise ShardRefused(
            f"shard {number}: Redis stands at offset {shard.stored}, which the log does not hold: records were lost at "
            "its end. Bring back the brokers that have them, or run `audience-stream reset-offsets` to go on without"
        )

    def pause(self) -> None:
        """Fetch nothing for now."""
        self._consumer.pause(self._partitions())

    def resume(self) -> None:
        """Fetch again."""
        self._consumer.resume(self._partitions())

    def commit(self, stored: dict[int, int]) -> None:
        """Mirror stored offsets (shard → offset) to Kafka, for lag tools only."""
        offsets = [TopicPartition(CHANGES, number, offset) for number, offset in stored.items() if number in self.taken]
        if offsets:
            try:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            except KafkaException as error:
                log.debug("offsets_not_mirrored", error=error.args[0].name())

    def _partitions(self) -> list[TopicPartition]:
        return [TopicPartition(CHANGES, number) for number in self.taken]

    def _told_starts(self, numbers: list[int]) -> dict[int, int]:
        """Where the logs begin, without those that have no leader now: they are read from where Redis stands, and the
        fetch says when the log does not reach back to there. So they hold up no others."""
        if time.monotonic() < self._ask_starts_at:
            return {}  # many shards that are read again one by one must not wait for the same broker each
        try:
            starts = self._starts(numbers)
        except RetryableError as error:
            log.debug("starts_not_asked", error=str(error))
            starts = {}
        if untold := sorted(set(numbers) - starts.keys()):
            self._ask_starts_at = time.monotonic() + _ASK_STARTS_AGAIN_S
            log.warning("starts_not_told", shards=untold)
        return starts

    def _assign_anew(self, partitions: list[TopicPartition]) -> None:
        if not partitions:
            return
        try:
            # not a seek: that is refused while a partition does not fetch, so after just the faults that lead here
            self._consumer.incremental_unassign(partitions)
            self._consumer.incremental_assign(partitions)
        except KafkaException as error:
            numbers = [partition.partition for partition in partitions]
            raise KafkaUnavailable(f"shards {numbers} can't be read again yet: {error.args[0].name()}") from error

    def _locate(self, number: int, low: int | None) -> Shard:
        """The shard as it is to be read on, `low` being where its log begins, if that is known."""
        stored = self._store.locate(number)
        return locate(number, stored, low or 0, self._topic_id, accept_partial=self._accept_partial)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign([])  # the binding would else fetch from Kafka's own offsets
        self.rebalanced = True
        metrics.WORKER_REBALANCES.labels("assigned").inc()
        numbers = {partition.partition for partition in partitions}
        self._waiting |= numbers
        for number in numbers:
            self.progress.stands(number, None)
        self.progress.joined(member=True)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        metrics.WORKER_REBALANCES.labels("revoked").inc()
        self._give_up(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        metrics.WORKER_REBALANCES.labels("lost").inc()
        self.progress.joined(member=False)
        self._give_up(consumer, partitions)

    def _give_up(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.rebalanced = True
        numbers = {partition.partition for partition in partitions}
        self._waiting -= numbers
        self.progress.gone(numbers)
        gone = [number for number in numbers if self.taken.pop(number, None) is not None]
        if gone:
            former = [TopicPartition(CHANGES, number) for number in gone]
            consumer.resume(former)  # a pause outlives the assignment: given back, such a shard would stand still
            consumer.incremental_unassign(former)
        else:
            consumer.incremental_unassign([])
        metrics.WORKER_SHARDS.set(len(self.taken))
        for number in gone:
            metrics.WORKER_OFFSET.remove(str(number))
        log.info("shards_revoked", shards=sorted(numbers))
