"""What the subscriptions topic says of an audience, asked before a message about it is applied.

Redis may have been restored to a state from before, or may be empty. The topic still holds every state that was ever
published, so it is what a message is applied to: else a `remove` would open an epoch that members carry already. Such
messages are rare, and a partition of a compacted topic is short, so it is read from its start each time: that needs no
memory, and an end of partition that comes then is the end as of now.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from audience_core.codec import Codec
from audience_core.domain.partitioning import audience_key, shard_of
from audience_core.domain.records import AudienceSubscription
from audience_core.domain.subscriptions import newer
from audience_core.errors import AudienceError, KafkaRefused, KafkaUnavailable, PoisonRecord, RetryableError
from audience_core.kafka.client import options
from audience_core.kafka.consumer import fetch
from audience_core.observability.logging import get_logger
from audience_core.settings import CoreSettings
from audience_core.topics import SUBSCRIPTIONS

_FETCH = 2000
_FETCH_S = 0.01
_METADATA_S = 1.0
PATIENCE_S = 10.0
"""Bound on a reading that no request waits for"""

log = get_logger()


class Published(Protocol):
    """Knows the published states of subscriptions."""

    async def newest(self, account: str, audience_id: int, *, patient: bool = False) -> AudienceSubscription | None:
        """The newest published state, or None when there is none; `patient`: no request waits for it.

        Raises RetryableError, KafkaRefused.
        """
        ...


@dataclass(frozen=True)
class _Question:
    partition: int
    key: bytes
    until: float
    answer: "asyncio.Future[AudienceSubscription | None]"


@dataclass
class _Reading:
    """A partition that is read for those who asked before it began."""

    asked: list[_Question] = field(default_factory=list)
    keys: set[bytes] = field(default_factory=set)
    until: float = 0.0
    found: dict[bytes, AudienceSubscription] = field(default_factory=dict)
    assigned: bool = False
    ended: bool = False
    failure: AudienceError | None = None

    def add(self, question: _Question) -> None:
        """Read on its behalf too."""
        self.asked.append(question)
        self.keys.add(question.key)
        self.until = max(self.until, question.until)

    def settle(self) -> None:
        """Answer who still waits."""
        for question in self.asked:
            if question.answer.done():
                continue
            if self.failure is None:
                question.answer.set_result(self.found.get(question.key))
            else:
                question.answer.set_exception(self.failure)


def make_consumer(settings: CoreSettings) -> Consumer:
    """Make a consumer that reads what it is assigned; it joins no group."""
    return Consumer(
        {
            "group.id": "ingest-gateway",  # the client asks for a name; the group is never joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 5,  # the last fetch finds nothing and waits so long; nothing is fetched in between
            **options(settings, "gateway-subscriptions"),
            # the producer tells the same of the same brokers, and what an idle consumer has to tell would pile up
            "log_level": 0,
            # a follower's end may lag behind what was acknowledged
            "client.rack": "",
        }
    )


class PublishedSubscriptions:
    """Reads the topic, each partition for itself. Who asks while one is read waits for its next reading."""

    def __init__(self, consumer: Consumer, codec: Codec, shards: int, within: float) -> None:
        self._consumer = consumer
        self._codec = codec
        self._shards = shards
        self._within = within
        self._asked: list[_Question] = []
        self._answering: asyncio.Task[None] | None = None
        self._why = "no answer in time"
        self._unclear = False
        """what the consumer is assigned, after a fault of it"""

    async def prepare(self) -> None:
        """Learn who leads the partitions: a first reading without that takes half a second."""
        while True:
            try:
                await asyncio.to_thread(self._consumer.list_topics, SUBSCRIPTIONS, timeout=_METADATA_S)
            except KafkaException as error:
                log.debug("subscriptions_not_prepared", error=error.args[0].name())
                await asyncio.sleep(_METADATA_S)
            else:
                return

    async def newest(self, account: str, audience_id: int, *, patient: bool = False) -> AudienceSubscription | None:
        """As Published has it; KafkaUnavailable after the bound, or after PATIENCE_S."""
        key, within = audience_key(account, audience_id), PATIENCE_S if patient else self._within
        answer = asyncio.get_running_loop().create_future()
        question = _Question(shard_of(key, self._shards), key, time.monotonic() + within, answer)
        self._asked.append(question)
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer_all())
        try:
            async with asyncio.timeout(within):
                return await question.answer
        except TimeoutError:
            raise KafkaUnavailable(f"{SUBSCRIPTIONS} could not be read: {self._why}") from None

    async def close(self) -> None:
        """End, after what is being read."""
        if self._answering is not None:
            await asyncio.wait([self._answering])
        await asyncio.to_thread(self._consumer.close)

    async def _answer_all(self) -> None:
        readings: dict[int, _Reading] = {}
        while readings or self._asked:
            self._begin(readings)
            try:
                await asyncio.to_thread(self._turn, readings)
            except Exception as error:  # a reading that is not settled would keep this up for ever
                log.exception("subscriptions_not_read")
                _fail(readings.values(), RetryableError(f"{SUBSCRIPTIONS} could not be read: {type(error).__name__}"))
                self._unclear = True
            for partition in [partition for partition, reading in readings.items() if reading.ended]:
                readings.pop(partition).settle()

    def _begin(self, readings: dict[int, _Reading]) -> None:
        """Take the questions whose partitions are not being read."""
        asked, self._asked = [question for question in self._asked if not question.answer.done()], []
        beginning: dict[int, _Reading] = {}
        for question in asked:
            if question.partition in readings:
                self._asked.append(question)
            else:
                beginning.setdefault(question.partition, _Reading()).add(question)
        readings |= beginning

    def _turn(self, readings: dict[int, _Reading]) -> None:
        if self._unclear:
            self._consumer.unassign()
            self._unclear = False
        new = [partition for partition, reading in readings.items() if not reading.assigned]
        if new:
            self._consumer.incremental_assign([TopicPartition(SUBSCRIPTIONS, n, OFFSET_BEGINNING) for n in new])
        for partition in new:
            readings[partition].assigned = True
        for message in fetch(self._consumer, _FETCH, _FETCH_S):
            self._take(readings, message)
        for reading in readings.values():
            if not reading.ended and time.monotonic() >= reading.until:
                reading.ended = True
                reading.failure = KafkaUnavailable(f"{SUBSCRIPTIONS} could not be read: {self._why}")
        ended = [partition for partition, reading in readings.items() if reading.ended]
        if ended:
            self._consumer.incremental_unassign([TopicPartition(SUBSCRIPTIONS, n) for n in ended])

    def _take(self, readings: dict[int, _Reading], message: Message) -> None:
        error, reading = message.error(), readings.get(message.partition() or 0)
        if error is None:
            if reading is not None:
                self._note(reading, message)
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
            if reading is not None:
                reading.ended = True
        elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            refused = KafkaRefused(f"the gateway's Kafka user may not read {SUBSCRIPTIONS}: grant it READ")
            log.error("subscriptions_not_read", error=str(refused))
            _fail(readings.values(), refused)
        else:
            self._why = error.name()

    def _note(self, reading: _Reading, message: Message) -> None:
        key, value = message.key(), message.value()
        if not isinstance(key, bytes) or key not in reading.keys:
            return
        try:
            kind, state = self._codec.decode(value if isinstance(value, bytes) else None)
        except PoisonRecord as error:
            log.warning("undecodable", topic=SUBSCRIPTIONS, reason=error.reason)
            return
        except RetryableError as error:  # it was written with a schema that only the registry knows
            _fail([reading], error)
            return
        if kind == "AudienceSubscription":
            reading.found[key] = newer(reading.found[key], state) if key in reading.found else state


def _fail(readings: Iterable[_Reading], failure: AudienceError) -> None:
    for reading in readings:
        reading.ended, reading.failure = True, reading.failure or failure
