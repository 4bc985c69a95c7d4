"""The subscriptions topic is read partition by partition, for as many as ask."""

import asyncio
import time
from typing import Any, cast
from unittest.mock import Mock

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from audience_core.errors import KafkaRefused, KafkaUnavailable, RetryableError
from audience_core.kafka.producer import Outgoing
from ingest_gateway.firehose import SubscriptionMessage
from ingest_gateway.published import PublishedSubscriptions
from ingest_gateway.subscriptions import Subscriptions
from tests.gateway.topic import CODEC, RECORDS, SHARDS, WITHIN_S
from tests.subscription_states import active


class Scripted:
    """A consumer whose fetches bring this, one after another, then nothing."""

    def __init__(self, *fetches: list[Any]) -> None:
        self._fetches = list(fetches)
        self.assigned: list[list[int]] = []
        self.unassigned: list[list[int]] = []

    def consume(self, _limit: int, timeout: float) -> list[Any]:
        if not timeout:
            return []
        if self._fetches:
            return self._fetches.pop(0)
        time.sleep(timeout)
        return []

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned.append([each.partition for each in partitions])

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        self.unassigned.append([each.partition for each in partitions])

    def unassign(self) -> None:
        self.unassigned.append([0, 1])

    def asked_by(self, within: float = WITHIN_S) -> PublishedSubscriptions:
        return PublishedSubscriptions(cast(Consumer, self), CODEC, SHARDS, within)


def message_of(record: Outgoing) -> Any:
    return Mock(
        error=lambda: None, partition=lambda: record.partition, key=lambda: record.key, value=lambda: record.value
    )


def end_of(partition: int) -> Any:
    return Mock(error=lambda: KafkaError(KafkaError._PARTITION_EOF), partition=lambda: partition)  # noqa: SLF001


NAMED = [RECORDS.subscription(active("demo", audience, 1)) for audience in range(9)]
IN_0, IN_1 = ([record.partition for record in NAMED].index(partition) for partition in (0, 1))


def test_a_partition_is_read_to_its_own_end() -> None:
    consumer = Scripted([end_of(0)], [], [message_of(NAMED[IN_1])], [end_of(1)])

    async def scene() -> None:
        published = consumer.asked_by()
        answers = await asyncio.gather(published.newest("demo", IN_1), published.newest("demo", IN_0))
        assert list(answers) == [active("demo", IN_1, 1), None]

    asyncio.run(scene())
    assert consumer.unassigned == [[0], [1]]


def test_a_partition_without_a_leader_delays_no_other_and_is_asked_again() -> None:
    consumer = Scripted([end_of(1)], [], [end_of(1)])

    async def scene() -> None:
        published = consumer.asked_by(1.0)
        hanging = asyncio.create_task(published.newest("demo", IN_0))
        for _ in range(2):
            assert await published.newest("demo", IN_1) is None
            assert not hanging.done()
        with pytest.raises(KafkaUnavailable, match="could not be read"):
            await hanging
        consumer._fetches += [[message_of(NAMED[IN_0])], [end_of(0)]]  # noqa: SLF001
        assert await published.newest("demo", IN_0) == active("demo", IN_0, 1)

    asyncio.run(scene())


def test_who_asks_while_a_partition_is_read_is_answered_by_its_next_reading() -> None:
    """What lies before the present reading's place would be missing."""
    consumer = Scripted([], [message_of(NAMED[IN_0]), end_of(0)], [], [end_of(0)])

    async def scene() -> None:
        published = consumer.asked_by()
        first = asyncio.create_task(published.newest("demo", IN_0))
        for _ in range(2):  # until it is being read
            await asyncio.sleep(0)
        second = asyncio.create_task(published.newest("demo", IN_0))
        assert [await first, await second] == [active("demo", IN_0, 1), None]

    asyncio.run(scene())
    assert consumer.assigned == [[0], [0]]


def test_a_gateway_without_the_right_to_read_says_which_it_needs_and_does_not_spool_past_it() -> None:
    refusal = Mock(error=lambda: KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    message = SubscriptionMessage.model_validate({"audience_id": 1, "action": "add"})
    store, publisher = Mock(), Mock()

    async def scene() -> None:
        published = Scripted([refusal]).asked_by()
        subscriptions = Subscriptions(store, Mock(), RECORDS, CODEC, published, spools=True)
        with pytest.raises(KafkaRefused, match="grant it READ"):
            await subscriptions.apply(message, "demo", 1, publisher)

    asyncio.run(scene())
    assert [*store.mock_calls, *publisher.mock_calls] == []


def test_a_fault_of_the_client_is_told_and_does_not_stay() -> None:
    consumer = Scripted([cast(Any, None)], [end_of(0)])

    async def scene() -> None:
        published = consumer.asked_by()
        with pytest.raises(RetryableError, match="AttributeError"):
            await published.newest("demo", IN_0)
        assert await published.newest("demo", IN_0) is None

    asyncio.run(scene())
    assert consumer.unassigned == [[0, 1], [0]], "what was assigned before the fault would be assigned twice"


def test_many_questions_about_long_partitions_are_answered_by_one_reading() -> None:
    """As a drain asks them."""
    records = [RECORDS.subscription(active("demo", audience, 1)) for audience in range(2000)]
    consumer = Scripted([message_of(record) for record in records for _ in range(10)], [end_of(0), end_of(1)])

    async def scene() -> None:
        published = consumer.asked_by()
        answers = await asyncio.gather(*(published.newest("demo", n, patient=True) for n in range(2000)))
        assert list(answers) == [active("demo", n, 1) for n in range(2000)]

    asyncio.run(scene())
    assert len(consumer.assigned) == 1
