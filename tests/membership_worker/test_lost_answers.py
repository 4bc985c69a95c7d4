"""A worker whose call ran, though its answer never came, tells everything that the call did."""

import math
import random
import time
from itertools import count
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from audience_core.codec import Codec
from audience_core.domain.records import VisitorErased
from audience_core.errors import RedisUnavailable
from audience_core.kafka.producer import Outgoing
from audience_core.redis.connect import connect
from audience_core.redis.shard_store import Applied, Sending, ShardStore
from audience_core.topics import CHANGES, ERASURES
from membership_worker.progress import Progress
from membership_worker.settings import WorkerSettings
from membership_worker.shards import Shards
from membership_worker.topic_watch import TopicWatch
from membership_worker.worker import Worker
from tests.simulation.clock import Clock
from tests.simulation.scheduler import Scheduler
from tests.simulation.simulated_kafka import Broker, Group, GroupConsumer, WorkerProducer

TOPIC_ID = "topic-1"
PATIENCE_S = 5.0
SETTLED_AFTER_TURNS = 10
CODEC = Codec()
ERASED = VisitorErased(account="demo", mpid="v1", received_at=1, request_id="request-1")


class LosesAnAnswer(ShardStore):
    """Redis carries out the first batch, and the worker never hears of it."""

    lost = False

    def receive(self, sending: Sending) -> Applied:
        applied = super().receive(sending)
        if not self.lost:
            self.lost = True
            raise RedisUnavailable("no answer in time")
        return applied


class RefusesBatches(ShardStore):
    """Redis is full for a while: it reads, and writes nothing."""

    left = 7

    def send(self, shard: int, topic_id: str, *batch: Any) -> Sending:
        return Sending(shard, topic_id, None, cast(Any, None)) if self.left else super().send(shard, topic_id, *batch)

    def receive(self, sending: Sending) -> Applied:
        if self.left:
            self.left -= 1
            raise RedisUnavailable("Redis is full")
        return super().receive(sending)


@pytest.fixture
def broker(scheduler: Scheduler) -> Broker:
    broker = Broker(scheduler, shards=1)
    broker.flaky = False
    return broker


@pytest.fixture
def scheduler() -> Scheduler:
    """One that nothing runs in: Kafka answers at once."""
    return Scheduler(Random(0), Clock())


def test_the_receipt_of_an_erasure_does_not_wait_for_the_next_batch(
    broker: Broker, scheduler: Scheduler, redis_url: str
) -> None:
    settings = WorkerSettings(shards=1, redis_url=redis_url)
    with connect(settings) as client:
        store = LosesAnAnswer(client, settings)
        _work_until_told(settings, broker, scheduler, store)
        assert store.receipts.waiting(0) == []
        store.close()
    (receipt,) = broker.logs[ERASURES, 0]
    _, content = CODEC.decode(receipt.body)
    assert (content["request_id"], content["shard"], content["offset"]) == ("request-1", 0, 0)


def test_the_pauses_grow_while_redis_refuses_every_batch(
    broker: Broker, scheduler: Scheduler, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest: list[float] = []

    def no_pause(_: float, most: float) -> float:
        longest.append(most)
        return 0

    monkeypatch.setattr(random, "uniform", no_pause)
    settings = WorkerSettings(shards=1, redis_url=redis_url)
    with connect(settings) as client:
        store = RefusesBatches(client, settings)
        _work_until_told(settings, broker, scheduler, store)
        store.close()
    assert longest[:5] == [0.2, 0.4, 0.8, 1.6, 3.0]
    assert broker.logs[ERASURES, 0]


def _work_until_told(settings: WorkerSettings, broker: Broker, scheduler: Scheduler, store: ShardStore) -> None:
    """Run a worker that an erasure reaches, until it has published the receipt or patience ends."""
    consumer = cast(Any, GroupConsumer(broker, Group(scheduler, 1)))
    shards = Shards(
        consumer,
        store,
        TOPIC_ID,
        starts=broker.starts,
        progress=Progress(math.inf, broker.starts),
        accept_partial=False,
        watch=TopicWatch(cast(Any, SimpleNamespace(topic_id=lambda *_, **__: TOPIC_ID)), TOPIC_ID),
    )
    until, turns = time.monotonic() + PATIENCE_S, count()

    def stopping() -> bool:
        # what a worker publishes when it takes a shard is published by then
        if next(turns) == SETTLED_AFTER_TURNS:
            broker.append(Outgoing(CHANGES, 0, b"", CODEC.encode("VisitorErased", ERASED)))
        return bool(broker.logs[ERASURES, 0]) or time.monotonic() > until

    Worker(
        settings,
        consumer=consumer,
        shards=shards,
        store=store,
        producer=cast(Any, WorkerProducer(broker)),
        codec=CODEC,
        topic_id=TOPIC_ID,
        stopping=stopping,
    ).run()
