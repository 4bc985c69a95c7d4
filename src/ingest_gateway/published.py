"""What the subscriptions topic says of an audience, asked before a message about it is applied.

Redis may have been restored to a state from before, or may be empty. The topic still holds every state that was ever
answered for, so it is what a message is applied to: else a `remove` would open an epoch that members carry already.
Such messages are rare, and a partition of a compacted topic is short, so it is read from its start each time: that
needs no memory, and an end of partition that comes then is the end as of now.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from audience_core.codec import Codec
from audience_core.domain.partitioning import audience_key, shard_of
from audience_core.domain.records import AudienceSubscription
from audience_core.domain.subscriptions import newer
from audience_core.errors import KafkaUnavailable, PoisonRecord
from audience_core.kafka.client import options
from audience_core.kafka.consumer import fetch
from audience_core.observability.logging import get_logger
from audience_core.settings import CoreSettings
from audience_core.topics import SUBSCRIPTIONS

_FETCH = 2000
_METADATA_S = 10.0

log = get_logger()


class Published(Protocol):
    """Knows the published states of subscriptions."""

    async def newest(self, account: str, audience_id: int) -> AudienceSubscription | None:
        """The newest published state, or None when there is none. Raises KafkaUnavailable."""
        ...


@dataclass(frozen=True)
class _Question:
    partition: int
    key: bytes
    answer: "asyncio.Future[AudienceSubscription | None]"


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
        },
        logger=logging.getLogger("rdkafka"),
    )


class PublishedSubscriptions:
    """Reads the topic. Who asks while it is read waits for the next reading, which answers all of them."""

    def __init__(self, consumer: Consumer, codec: Codec, shards: int, within: float) -> None:
        self._consumer = consumer
        self._codec = codec
        self._shards = shards
        self._within = within
        self._asked: list[_Question] = []
        self._reading: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        """Learn who leads the partitions: a first reading without that takes half a second."""
        try:
            await asyncio.to_thread(self._consumer.list_topics, SUBSCRIPTIONS, timeout=_METADATA_S)
        except KafkaException as error:
            log.debug("subscriptions_not_prepared", error=error.args[0].name())

    async def newest(self, account: str, audience_id: int) -> AudienceSubscription | None:
        """The newest published state, or None when there is none. Raises KafkaUnavailable after the bound."""
        key = audience_key(account, audience_id)
        question = _Question(shard_of(key, self._shards), key, asyncio.get_running_loop().create_future())
        self._asked.append(question)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._answer_all())
        try:
            async with asyncio.timeout(self._within):
                return await question.answer
        except TimeoutError:
            raise KafkaUnavailable(f"{SUBSCRIPTIONS} could not be read in time") from None

    async def close(self) -> None:
        """End, after what is being read."""
        if self._reading is not None:
            await asyncio.wait([self._reading])
        await asyncio.to_thread(self._consumer.close)

    async def _answer_all(self) -> None:
        while asked := [question for question in self._asked if not question.answer.done()]:
            self._asked = []
            found: dict[bytes, AudienceSubscription] = {}
            failure: Exception | None = None
            try:
                found = await asyncio.to_thread(self._read, asked)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
                failure = error
            for question in asked:
                if question.answer.done():
                    continue
                if failure is None:
                    question.answer.set_result(found.get(question.key))
                else:
                    question.answer.set_exception(failure)

    def _read(self, asked: list[_Question]) -> dict[bytes, AudienceSubscription]:
        keys, found = {question.key for question in asked}, dict[bytes, AudienceSubscription]()
        for key, value in _records(self._consumer, {question.partition for question in asked}, self._within):
            if key in keys and (state := self._decoded(value)) is not None:
                found[key] = newer(found[key], state) if key in found else state
        return found

    def _decoded(self, value: bytes | None) -> AudienceSubscription | None:
        try:
            kind, state = self._codec.decode(value)
        except PoisonRecord as error:
            log.warning("undecodable", topic=SUBSCRIPTIONS, reason=error.reason)
            return None
        return state if kind == "AudienceSubscription" else None


def _records(consumer: Consumer, partitions: set[int], within: float) -> Iterator[tuple[bytes | None, bytes | None]]:
    """(key, value) of all that the partitions hold. Raises KafkaUnavailable after `within` seconds."""
    unread, until, why = set(partitions), time.monotonic() + within, "no answer in time"
    consumer.assign([TopicPartition(SUBSCRIPTIONS, partition, OFFSET_BEGINNING) for partition in partitions])
    try:
        while unread:
            left = until - time.monotonic()
            if left <= 0:
                raise KafkaUnavailable(f"{SUBSCRIPTIONS} could not be read: {why}")
            for message in fetch(consumer, _FETCH, left):
                error = message.error()
                if error is None:
                    yield message.key(), message.value()
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
                    unread.discard(message.partition())
                elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    raise KafkaUnavailable(f"Kafka does not let the gateway read {SUBSCRIPTIONS}: grant it READ")
                else:
                    why = error.name()
    finally:
        consumer.unassign()
