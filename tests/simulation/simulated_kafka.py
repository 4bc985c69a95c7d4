"""A Kafka whose acknowledgements get lost, whose group moves shards without asking, and whose senders may be late."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from audience_core.codec import Codec
from audience_core.domain.partitioning import audience_key, shard_of
from audience_core.domain.records import AudienceSubscription
from audience_core.domain.subscriptions import newer
from audience_core.errors import KafkaUnavailable
from audience_core.kafka.producer import Outgoing, Settled
from audience_core.topics import CHANGES, COUNTS, SUBSCRIPTIONS, TOPICS
from tests.simulation.scheduler import Scheduler

_ACK_LOST = _NOT_WRITTEN = 0.02
_LATE = 0.15
"""of subscriptions; there are few of them"""
_COUNT_LOST = 0.05
_NOT_TOLD = 0.1
_GIVEN_UP = 0.2
_FETCHED_AT_ONCE = 6
_IDLE_STEPS = 10
_LATE_STEPS = 100


class Record(NamedTuple):
    """A record of a partition, as a consumer's message shows it."""

    topic_name: str
    number: int
    at: int
    key_bytes: bytes
    body: bytes

    def error(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 0, 0

    def topic(self) -> str:
        return self.topic_name

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return self.key_bytes

    def value(self) -> bytes:
        return self.body


class EndOfPartition(NamedTuple):
    """The event that a consumer gets once at a partition's end."""

    topic_name: str
    number: int

    def error(self) -> KafkaError:
        return KafkaError(KafkaError._PARTITION_EOF)  # noqa: SLF001 - its only name

    def topic(self) -> str:
        return self.topic_name

    def partition(self) -> int:
        return self.number


class Broker:
    """The topics. Offsets of a compacted topic have gaps."""

    def __init__(self, scheduler: Scheduler, shards: int) -> None:
        self.scheduler = scheduler
        self.shards = shards
        self.logs: dict[tuple[str, int], list[Record]] = {
            (topic.name, number): [] for topic in TOPICS for number in range(shards)
        }
        self._ends = dict.fromkeys(self.logs, 0)
        self.down = False
        self.flaky = True
        self.counts_get_lost = False

    def append(self, outgoing: Outgoing) -> None:
        place = (outgoing.topic, outgoing.partition)
        self.logs[place].append(Record(*place, self._ends[place], outgoing.key, outgoing.value))
        self._ends[place] += 1
        self.scheduler.note("kafka", outgoing.partition, self._ends[place] - 1, outgoing.value)

    def end(self, topic: str, number: int) -> int:
        return self._ends[topic, number]

    def starts(self, shards: list[int]) -> dict[int, int]:
        """Nothing is ever deleted from the changes topic. While a leader is missing, nothing is told."""
        self.scheduler.step()
        if self.down or (self.flaky and self.scheduler.chance(_NOT_TOLD)):
            raise KafkaUnavailable("simulated")
        return dict.fromkeys(shards, 0)

    def read(self, topic: str, number: int, position: int, limit: int) -> list[Record]:
        log = self.logs[topic, number]
        first = bisect_left(log, position, key=lambda record: record.at)
        return log[first : first + limit]

    def compact(self) -> None:
        """Keep the last record of each key in the compacted topics."""
        for (topic, _), log in self.logs.items():
            if topic in {COUNTS, SUBSCRIPTIONS}:
                last = {record.key_bytes: record.at for record in log}
                log[:] = [record for record in log if last[record.key_bytes] == record.at]

    def write(self, records: Iterable[Outgoing]) -> None:
        """Write one by one; raise KafkaUnavailable when one was not written, or was but nobody will know."""
        failed = False
        for record in records:
            self.scheduler.step()
            if self.down or (self.flaky and self.scheduler.chance(_NOT_WRITTEN)):
                failed = True
                continue
            self.append(record)
            failed = failed or (self.flaky and self.scheduler.chance(_ACK_LOST))
        if failed:
            raise KafkaUnavailable("simulated")


class QueueingClient:
    """A client's queue of records that are on their way."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._queue: list[Outgoing] = []
        self.closed = False

    @property
    def idle(self) -> bool:
        return not self._queue


class GatewayPublisher(QueueingClient):
    """What the gateway publishes through. As librdkafka does, it keeps what it could not write in time, and writes that
    later, in order, or gives it up; nobody who sent it knows which."""

    async def publish(self, records: Sequence[Outgoing]) -> None:
        broker, failed = self._broker, False
        for record in records:
            broker.scheduler.step()
            waits = any((late.topic, late.partition) == (record.topic, record.partition) for late in self._queue)
            if (
                waits
                or broker.down
                or (broker.flaky and broker.scheduler.chance(_LATE if record.topic == SUBSCRIPTIONS else _NOT_WRITTEN))
            ):
                self._queue.append(record)
                failed = True
                continue
            broker.append(record)
            failed = failed or (broker.flaky and broker.scheduler.chance(_ACK_LOST))
        if failed:
            raise KafkaUnavailable("simulated")

    def network(self) -> None:
        """The client's own side: runs as a process of its own."""
        while not self.closed:
            self._broker.scheduler.rest(_LATE_STEPS)
            while self._queue and not self.closed:
                given_up = self._broker.flaky and self._broker.scheduler.chance(_GIVEN_UP)
                if self._broker.down and not given_up:
                    break
                record = self._queue.pop(0)
                if not given_up:
                    self._broker.append(record)


class PublishedStates:
    """What the gateway asks the subscriptions topic through. The last record is not always the newest state."""

    def __init__(self, broker: Broker, codec: Codec) -> None:
        self._broker = broker
        self._codec = codec

    async def newest(self, account: str, audience_id: int, *, patient: bool = False) -> AudienceSubscription | None:
        assert not patient  # only a drain is, which is not simulated
        self._broker.scheduler.step()
        if self._broker.down or (self._broker.flaky and self._broker.scheduler.chance(_NOT_TOLD)):
            raise KafkaUnavailable("simulated")
        key = audience_key(account, audience_id)
        log = self._broker.logs[SUBSCRIPTIONS, shard_of(key, self._broker.shards)]
        states = [self._codec.decode(record.body)[1] for record in log if record.key_bytes == key]
        return reduce(newer, states) if states else None


class BackgroundProducer(QueueingClient):
    """A worker's or an indexer's: records travel behind its back, may be overtaken by its death, or come long after."""

    def send(self, records: Sequence[Outgoing], _settled: Settled) -> None:
        self._broker.scheduler.step()
        self._queue.extend(records)

    def send_and_wait(self, records: Sequence[Outgoing], _timeout: float) -> None:
        self._broker.write(records)

    def deliver(self) -> None:
        """The network's side: runs as a process of its own."""
        while self._queue or not self.closed:
            self._broker.scheduler.rest(_IDLE_STEPS)
            if self._queue and not self._broker.down:
                record = self._queue.pop(0)
                if not (self._broker.counts_get_lost and self._broker.scheduler.chance(_COUNT_LOST)):
                    self._broker.append(record)


class Group:
    """The coordinator. It may give a shard away while the former owner still believes in it: its session ended."""

    def __init__(self, scheduler: Scheduler, shards: int) -> None:
        self.members: dict[GroupConsumer, set[int]] = {}
        self._scheduler = scheduler
        self._shards = shards

    def join(self, member: "GroupConsumer") -> None:
        self.members[member] = set()
        self.rebalance()

    def leave(self, member: "GroupConsumer") -> None:
        if self.members.pop(member, None) is not None:
            self.rebalance()

    def rebalance(self) -> None:
        """Give every shard to one member, whoever has it now."""
        for owned in self.members.values():
            owned.clear()
        members = list(self.members)
        for number in range(self._shards if members else 0):
            self.members[self._scheduler.random.choice(members)].add(number)


class GroupConsumer:
    """A worker's consumer, as far as `membership_worker` uses one. Callbacks happen inside its polls.

    Like librdkafka it pauses all that it fetches while a rebalance waits for its callback. An assignment that comes
    just then is taken for the callback's answer, and what was kept stays paused until it is assigned anew.
    """

    def __init__(self, broker: Broker, group: Group) -> None:
        self._broker = broker
        self._group = group
        self._owned: set[int] = set()
        self._positions: dict[int, int] = {}
        self._paused: set[int] = set()
        self._kept_paused: set[int] = set()
        self._in_callback = self._crossed = False
        self._on: dict[str, Any] = {}

    def subscribe(self, _topics: list[str], **callbacks: Any) -> None:
        self._on = callbacks
        self._group.join(self)

    def poll(self, timeout: float) -> None:
        self._turn(timeout)

    def consume(self, limit: int, timeout: float) -> list[Record]:
        self._turn(timeout)
        found: list[Record] = []
        for number in sorted(self._positions):
            if number in self._paused | self._kept_paused or len(found) >= limit:
                continue
            most = min(limit - len(found), 1 + self._broker.scheduler.random.randrange(_FETCHED_AT_ONCE))
            records = self._broker.read(CHANGES, number, self._positions[number], most)
            if records:
                self._positions[number] = records[-1].at + 1
                found += records
        if not found and timeout:
            self._broker.scheduler.rest(_IDLE_STEPS)
        return found

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        numbers = {partition.partition for partition in partitions}
        if numbers & self._positions.keys():
            raise KafkaException(KafkaError(KafkaError._CONFLICT))  # noqa: SLF001 - its only name
        self._cross()
        self._positions |= {partition.partition: partition.offset for partition in partitions}

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        numbers = {partition.partition for partition in partitions}
        if numbers - self._positions.keys():
            raise KafkaException(KafkaError(KafkaError._INVALID_ARG))  # noqa: SLF001 - its only name
        self._cross()
        for number in numbers:  # one that the application paused stays so, and is when it comes back
            del self._positions[number]
        self._kept_paused -= numbers

    def _cross(self) -> None:
        if not self._in_callback and self._group.members.get(self, self._owned) != self._owned:
            self._kept_paused |= self._positions.keys()
            self._crossed = True

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition(CHANGES, each.partition, self._positions[each.partition]) for each in partitions]

    def pause(self, partitions: list[TopicPartition]) -> None:
        self._paused |= {partition.partition for partition in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self._paused -= {partition.partition for partition in partitions}

    def commit(self, **_: Any) -> None:
        return

    def get_watermark_offsets(self, partition: TopicPartition, *, cached: bool) -> tuple[int, int]:
        assert cached  # asking the broker would take a step
        return 0, self._broker.end(CHANGES, partition.partition)

    def leave(self) -> None:
        self._group.leave(self)

    def _turn(self, timeout: float) -> None:
        self._broker.scheduler.step()
        self._broker.scheduler.clock.sleep(timeout)
        wanted = set(self._group.members.get(self, ()))
        gone, new = self._owned - wanted, wanted - self._owned
        self._owned = wanted
        self._in_callback = True
        if gone:
            lost = self._broker.scheduler.chance(0.5)
            self._on["on_lost" if lost else "on_revoke"](self, [TopicPartition(CHANGES, number) for number in gone])
        if new or (self._crossed and not gone):
            self._on["on_assign"](self, [TopicPartition(CHANGES, number) for number in new])
        self._in_callback = self._crossed = False


class WholeTopics:
    """The indexer's consumer: both compacted topics from their start."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._positions = {place: 0 for place in broker.logs if place[0] in {COUNTS, SUBSCRIPTIONS}}
        self._told: set[tuple[str, int]] = set()

    def consume(self, limit: int, timeout: float) -> list[Any]:
        self._broker.scheduler.step()
        self._broker.scheduler.clock.sleep(timeout)
        found: list[Any] = []
        for place, position in self._positions.items():
            if len(found) >= limit:
                break
            records = self._broker.read(*place, position, min(limit - len(found), _FETCHED_AT_ONCE))
            if records:
                self._positions[place] = records[-1].at + 1
                self._told.discard(place)
                found += records
            elif place not in self._told and len(found) < limit:
                self._told.add(place)
                found.append(EndOfPartition(*place))
        if not found and timeout:
            self._broker.scheduler.rest(_IDLE_STEPS)
        return found

    @property
    def at_end(self) -> bool:
        return all(not self._broker.read(*place, position, 1) for place, position in self._positions.items())
