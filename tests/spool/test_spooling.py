"""What goes behind what: the spool, Kafka, and other gateways."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from pydantic import SecretStr

from audience_core.codec import Codec
from audience_core.domain.records import AudienceSubscription
from audience_core.errors import SpoolUnavailable
from audience_core.kafka.admin import TopicAdmin
from audience_core.kafka.producer import Outgoing, RecordProducer
from audience_core.redis.catalog import AsyncCatalogStore
from audience_core.redis.connect import connect_async
from audience_core.settings import CoreSettings
from audience_core.topics import CHANGES, SUBSCRIPTIONS
from ingest_gateway.caches import CatalogCache
from ingest_gateway.firehose import SubscriptionMessage
from ingest_gateway.outgoing import Records
from ingest_gateway.published import PublishedSubscriptions, make_consumer
from ingest_gateway.publisher import KafkaPublisher
from ingest_gateway.spool import Spool
from ingest_gateway.spool_file import claim, claim_left_behind
from ingest_gateway.spooling import Drain, Renew, SpoolingPublisher
from ingest_gateway.subscriptions import Subscriptions
from tests.pipeline.running import eventually
from tests.spool.conftest import Broker

ACK_S = 0.3


@pytest.fixture
def settings(broker: Broker, redis_url: str) -> CoreSettings:
    made = CoreSettings(
        kafka_bootstrap_servers=broker.address,
        kafka_replication=1,
        shards=2,
        redis_url=SecretStr(redis_url),
    )
    TopicAdmin(made).create_missing()
    return made


async def as_it_is(record: Outgoing) -> Outgoing:
    return record


class Outlet:
    """A gateway's way out: Kafka, the spool, and the drain when it is started."""

    def __init__(self, settings: CoreSettings, folder: Path, limit: int, renew: Renew) -> None:
        self._producer = RecordProducer(settings, "test")
        self.kafka = KafkaPublisher(self._producer, ACK_S)
        self.spool = Spool(claim(folder), limit)
        self.publisher = SpoolingPublisher(self.kafka, self.spool)
        self.drain = Drain(self.kafka, renew)

    async def drained(self) -> None:
        task = asyncio.create_task(self.drain.forever(self.spool))
        await asyncio.to_thread(eventually, lambda: self.spool.records, 30, 0)
        task.cancel()

    async def close(self) -> None:
        await asyncio.to_thread(self._producer.close)
        await self.spool.close()


@asynccontextmanager
async def outlet(
    settings: CoreSettings, folder: Path, limit: int = 10**6, renew: Renew = as_it_is
) -> AsyncIterator[Outlet]:
    made = Outlet(settings, folder, limit, renew)
    try:
        yield made
    finally:
        await made.close()


def change(number: int) -> Outgoing:
    return Outgoing(CHANGES, number % 2, b"demo:1", f"{number}".encode())


def log_of(settings: CoreSettings, topic: str) -> list[list[bytes]]:
    """Values of each partition, in order, each once: a late acknowledgement leaves a second copy."""
    options = {"enable.partition.eof": True, "group.id": "reading", "auto.offset.reset": "earliest"}
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, **options})
    consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in range(settings.shards)])
    found: list[list[bytes]] = [[] for _ in range(settings.shards)]
    unread = set(range(settings.shards))
    while unread:
        message = consumer.poll(10)
        assert message is not None
        partition, value = message.partition() or 0, message.value()
        if message.error() is not None:
            unread.discard(partition)
        elif isinstance(value, bytes):
            found[partition].append(value)
    consumer.close()
    return found


def test_while_the_spool_holds_anything_new_records_go_behind_it_at_once_and_all_arrive_in_order(
    settings: CoreSettings, broker: Broker, tmp_path: Path
) -> None:
    async def run() -> None:
        async with outlet(settings, tmp_path) as out:
            await out.publisher.publish([change(0), change(1)])
            await out.drained()  # the first acknowledgement of a producer is a slow one
            broker.away()
            started = time.monotonic()
            await out.publisher.publish([change(2), change(3)])
            assert time.monotonic() - started > ACK_S
            started = time.monotonic()
            for number in range(4, 40):
                await out.publisher.publish([change(number)])
            assert time.monotonic() - started < 36 * ACK_S / 2
            assert out.spool.records == 38
            broker.back()
            await out.drained()
            await out.publisher.publish([change(40), change(41)])
            await out.drained()

    asyncio.run(run())
    for partition, values in enumerate(log_of(settings, CHANGES)):
        assert list(dict.fromkeys(values)) == [f"{n}".encode() for n in range(partition, 42, 2)]


def test_a_full_spool_refuses_at_once_and_takes_records_again_after_the_drain(
    settings: CoreSettings, broker: Broker, tmp_path: Path
) -> None:
    async def run() -> None:
        async with outlet(settings, tmp_path, limit=1000) as out:
            await out.publisher.publish([change(0), change(1)])
            await out.drained()
            broker.away()
            for number in range(2, 2 + 1000 // (len(CHANGES) + len("demo:1") + 1 + 32)):
                await out.publisher.publish([change(number % 10)])
            with pytest.raises(SpoolUnavailable, match="AUDIENCE_SPOOL_BYTES"):
                await out.publisher.publish([change(0)])
            assert out.spool.refusing
            broker.back()
            await out.drained()
            await out.publisher.publish([change(100)])
            assert not out.spool.refusing

    asyncio.run(run())


def test_what_a_dead_process_left_behind_is_drained_and_its_file_deleted(
    settings: CoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_gateway.spooling._ADOPT_EVERY_S", 0.1)
    # ours is file 0, the dead process had file 1
    mine = claim(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.spool.appender", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    [orphan] = claim_left_behind(tmp_path)
    mine.close()
    orphan.write([], drop_to=10**9)  # the appender's topic does not exist
    orphan.write([change(1), change(2)])
    orphan.close()

    async def run() -> None:
        async with outlet(settings, tmp_path) as out:
            assert out.spool.records == 0
            task = asyncio.create_task(out.drain.adopt_forever(tmp_path, 10**6))
            await asyncio.to_thread(eventually, (tmp_path / "spool-1.db").exists, 20, False)
            task.cancel()

    asyncio.run(run())
    assert log_of(settings, CHANGES) == [[b"2"], [b"1"]]


def subscription(name: str, occurred_at: int) -> SubscriptionMessage:
    fields: dict[str, Any] = {"audience_id": 7, "audience_name": name, "action": "update", "timestamp_ms": occurred_at}
    return SubscriptionMessage.model_validate(fields)


def test_a_spooled_subscription_never_hides_a_newer_one_that_another_gateway_has_published(
    settings: CoreSettings, broker: Broker, tmp_path: Path
) -> None:
    async def run() -> None:
        client = connect_async(settings)
        store, codec = AsyncCatalogStore(client), Codec()
        published = PublishedSubscriptions(make_consumer(settings), codec, settings.shards, ACK_S)
        records = Records(codec, settings.shards)
        subscriptions = Subscriptions(store, CatalogCache(store), records, codec, published, spools=True)
        async with (
            outlet(settings, tmp_path / "a", renew=subscriptions.renew) as late,
            outlet(settings, tmp_path / "b", renew=subscriptions.renew) as other,
        ):
            await subscriptions.apply(subscription("first", 1), "demo", 1, late.publisher)
            await late.drained()
            broker.away()
            await subscriptions.apply(subscription("second", 2), "demo", 2, late.publisher)
            assert late.spool.records == 1
            broker.back()
            await subscriptions.apply(subscription("third", 3), "demo", 3, other.publisher)
            await other.drained()
            await late.drained()
        await published.close()
        await client.aclose()

    asyncio.run(run())
    values = [value for partition in log_of(settings, SUBSCRIPTIONS) for value in partition]
    states: list[AudienceSubscription] = [Codec().decode(value)[1] for value in values]
    assert states[0]["name"] == "first"
    assert states[-1]["name"] == "third"
