"""A subscription message is applied to what the topic says, whatever Redis has forgotten."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast
from unittest.mock import Mock

import pytest
from confluent_kafka import Consumer
from pydantic import SecretStr

from audience_core.domain.records import AudienceSubscription
from audience_core.errors import KafkaUnavailable
from audience_core.kafka.admin import TopicAdmin
from audience_core.kafka.producer import Outgoing, RecordProducer
from audience_core.redis import keys
from audience_core.redis.catalog import AsyncCatalogStore
from audience_core.redis.connect import connect_async
from audience_core.settings import CoreSettings
from audience_stream.embedded import EmbeddedKafka, free_port
from ingest_gateway.caches import CatalogCache
from ingest_gateway.firehose import SubscriptionMessage
from ingest_gateway.published import PublishedSubscriptions, make_consumer
from ingest_gateway.publisher import KafkaPublisher
from ingest_gateway.subscriptions import Subscriptions
from tests.gateway.topic import CODEC, RECORDS, SHARDS, WITHIN_S
from tests.subscription_states import active


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as server:
        TopicAdmin(CoreSettings(kafka_bootstrap_servers=server.address, shards=SHARDS)).create_missing()
        yield server.address


@pytest.fixture
def settings(kafka: str, redis_url: str) -> CoreSettings:
    return CoreSettings(kafka_bootstrap_servers=kafka, redis_url=SecretStr(redis_url), shards=SHARDS)


@pytest.fixture
def without_kafka(redis_url: str) -> CoreSettings:
    nowhere = f"127.0.0.1:{free_port()}"
    options = {"log_level": 0}
    return CoreSettings(kafka_bootstrap_servers=nowhere, redis_url=SecretStr(redis_url), kafka_options=options)


@asynccontextmanager
async def reading(settings: CoreSettings, within: float = WITHIN_S) -> AsyncIterator[PublishedSubscriptions]:
    published = PublishedSubscriptions(make_consumer(settings), CODEC, SHARDS, within)
    try:
        yield published
    finally:
        await published.close()


Apply = Callable[[str, int], Awaitable[AudienceSubscription]]


class Publisher:
    """Takes everything, so that a case without Kafka needs no spool."""

    async def publish(self, records: Any) -> None:
        """Forget them."""


@asynccontextmanager
async def gateway(settings: CoreSettings, within: float = WITHIN_S, *, spools: bool = False) -> AsyncIterator[Apply]:
    """Apply (action, time) to audience 7 as a gateway does that was just started."""
    client = connect_async(settings)
    store, producer = AsyncCatalogStore(client), RecordProducer(settings, "test", linger_ms=0)
    publisher = Publisher() if spools else KafkaPublisher(producer, WITHIN_S)
    async with reading(settings, within) as published:
        subscriptions = Subscriptions(store, CatalogCache(store), RECORDS, CODEC, published, spools=spools)

        async def apply(action: str, at: int) -> AudienceSubscription:
            fields = {"audience_id": 7, "audience_name": "Seven", "action": action, "timestamp_ms": at}
            return await subscriptions.apply(SubscriptionMessage.model_validate(fields), "demo", at, publisher)

        try:
            yield apply
        finally:
            await asyncio.to_thread(producer.close, 0)
            await client.aclose()


def publish(settings: CoreSettings, records: list[Outgoing]) -> None:
    producer = RecordProducer(settings, "test", linger_ms=0)
    producer.send_and_wait(records, WITHIN_S)
    producer.close()


def test_a_gateway_that_starts_on_a_redis_of_before_opens_a_new_epoch_all_the_same(settings: CoreSettings) -> None:
    async def scene() -> None:
        client: Any = connect_async(settings)
        key = keys.catalog("demo")
        saved: list[dict[str, str]] = [{}]
        async with gateway(settings) as apply:
            for at, action in enumerate(("add", "remove", "add")):
                await apply(action, at + 1)
                saved.append(await client.hgetall(key))
        for epoch, before in enumerate(saved[:-1], start=2):
            await client.delete(key)
            if before:
                await client.hset(key, mapping=before)
            async with gateway(settings) as apply:
                removed, added = await apply("remove", 10 * epoch), await apply("add", 10 * epoch + 1)
            assert [(s["status"], s["epoch"]) for s in (removed, added)] == [("REMOVED", epoch), ("ACTIVE", epoch)]
        await client.aclose()

    asyncio.run(scene())


def test_questions_that_come_at_once_share_readings_and_each_gets_its_own_answer(settings: CoreSettings) -> None:
    publish(settings, [RECORDS.subscription(active("many", audience, audience)) for audience in range(50)])

    async def scene() -> None:
        counted = Mock(wraps=make_consumer(settings))
        published = PublishedSubscriptions(cast(Consumer, counted), CODEC, SHARDS, WITHIN_S)
        answers = await asyncio.gather(*(published.newest("many", audience) for audience in range(60)))
        await published.close()
        assert answers == [active("many", audience, audience) for audience in range(50)] + [None] * 10
        assert counted.incremental_assign.call_count == 1

    asyncio.run(scene())


def test_the_newest_state_counts_wherever_it_lies_and_what_nobody_can_read_is_passed_over(
    settings: CoreSettings,
) -> None:
    newest, older = (RECORDS.subscription(active("late", 1, at)) for at in (2, 1))
    publish(settings, [newest, older, newest._replace(value=b"poison")])

    async def scene() -> None:
        async with reading(settings) as published:
            assert await published.newest("late", 1) == active("late", 1, 2)
            publish(settings, [RECORDS.subscription(active("late", 1, 3))])
            assert await published.newest("late", 1) == active("late", 1, 3)

    asyncio.run(scene())


def test_without_kafka_a_message_waits_no_longer_than_the_bound_and_is_to_be_sent_again(
    without_kafka: CoreSettings,
) -> None:
    async def scene() -> None:
        async with gateway(without_kafka, 0.2) as apply:
            for _ in range(2):
                started = time.monotonic()
                with pytest.raises(KafkaUnavailable, match="audience-subscriptions"):
                    await apply("add", 1)
                assert time.monotonic() - started < 2  # ten times the bound, on a busy machine
            client: Any = connect_async(without_kafka)
            assert await client.hlen(keys.catalog("demo")) == 0, "it was applied to what might be old"
            await client.aclose()

    asyncio.run(scene())


def test_a_gateway_that_spools_goes_on_without_kafka(without_kafka: CoreSettings) -> None:
    async def scene() -> None:
        async with gateway(without_kafka, 0.2, spools=True) as apply:
            assert [(await apply(action, at))["epoch"] for at, action in enumerate(("add", "remove"))] == [0, 1]

    asyncio.run(scene())


def test_a_spooled_record_is_renewed_by_what_the_topic_says(settings: CoreSettings) -> None:
    newest, spooled = (RECORDS.subscription(active("spooled", 1, at)) for at in (2, 1))
    publish(settings, [newest])

    async def scene() -> None:
        client = connect_async(settings)
        store = AsyncCatalogStore(client)
        async with reading(settings) as published:
            subscriptions = Subscriptions(store, CatalogCache(store), RECORDS, CODEC, published, spools=True)
            assert await subscriptions.renew(spooled) == newest
        await client.aclose()

    asyncio.run(scene())
