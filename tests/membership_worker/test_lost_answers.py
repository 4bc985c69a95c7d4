"""A worker whose call ran, though its answer never came, tells everything that the call did."""

import random
from typing import Any, cast

import pytest

from audience_core.errors import RedisUnavailable
from audience_core.redis.shard_store import Applied, Sending, ShardStore
from audience_core.topics import ERASURES
from membership_worker.settings import WorkerSettings
from tests.membership_worker.working import CODEC, open_store, work_until_told
from tests.simulation.scheduler import Scheduler
from tests.simulation.simulated_kafka import Broker


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


def test_the_receipt_of_an_erasure_does_not_wait_for_the_next_batch(
    broker: Broker, scheduler: Scheduler, redis_url: str
) -> None:
    settings = WorkerSettings(shards=1, redis_url=redis_url)
    with open_store(settings, LosesAnAnswer) as store:
        work_until_told(settings, broker, scheduler, store)
        assert store.receipts.waiting(0) == []
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
    with open_store(settings, RefusesBatches) as store:
        work_until_told(settings, broker, scheduler, store)
    assert longest[:5] == [0.2, 0.4, 0.8, 1.6, 3.0]
    assert broker.logs[ERASURES, 0]
