"""The indexer, when Redis goes back so that its mark is the right one: saved behind it, restored before the next."""

import json
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from random import Random
from typing import Any, cast
from unittest.mock import Mock

import pytest

from audience_core.codec import Codec
from audience_core.domain.records import AudienceSubscription
from audience_core.kafka.producer import Outgoing
from audience_core.redis import keys
from audience_core.redis.connect import connect
from audience_core.redis.shard_store import ShardStore
from audience_core.topics import SUBSCRIPTIONS
from audience_indexer import indexer
from audience_indexer.indexer import Indexer
from audience_indexer.listing import ListingWriter
from audience_indexer.settings import IndexerSettings
from tests.simulation.clock import Clock
from tests.simulation.scheduler import Scheduler
from tests.simulation.simulated_kafka import Broker, WholeTopics

PATIENCE_S = 5.0
SETTLED_AFTER_TURNS = 10
CODEC = Codec()
SUBSCRIPTION = AudienceSubscription(
    account="demo",
    audience_id=7,
    name="Buyers",
    description="",
    status="ACTIVE",
    epoch=0,
    settings={},
    opened_at=1,
    updated_at=1,
)
WRITTEN = (keys.catalog("demo"), keys.index("demo"), keys.index_counts("demo"))


@pytest.fixture
def broker() -> Broker:
    """Nothing runs in its scheduler: Kafka answers at once."""
    return Broker(Scheduler(Random(0), Clock()), shards=1)


@pytest.mark.parametrize(
    "lost", [*([key] for key in WRITTEN), list(WRITTEN)], ids=["catalog", "index", "counts", "all"]
)
def test_a_write_that_is_lost_though_the_mark_is_right_is_made_again(
    broker: Broker, redis_url: str, monkeypatch: pytest.MonkeyPatch, lost: list[str]
) -> None:
    settings = IndexerSettings(shards=1, redis_url=redis_url, indexer_check_every=timedelta(milliseconds=1))
    with connect(settings) as client:
        redis: Any = client
        redis.hset(keys.counts(0), "demo:7", 3)
        redis.hset(keys.offset(0), "offset", 5)
        went_back, write = list[bool](), ListingWriter.write

        def write_and_go_back(self: ListingWriter, totals: Any) -> None:
            write(self, totals)
            if not went_back:
                went_back.append(bool(redis.delete(*lost)))

        monkeypatch.setattr(ListingWriter, "write", write_and_go_back)
        run(settings, broker, redis, until=lambda: redis.exists(*WRITTEN) == len(WRITTEN))
        assert went_back == [True]
        assert redis.hkeys(keys.catalog("demo")) == ["7"]
        assert redis.zrange(keys.index("demo"), 0, -1, withscores=True) == [("7", 3.0)]
        assert json.loads(redis.hget(keys.index_counts("demo"), "7"))["count"] == 3


@pytest.mark.parametrize("lost", WRITTEN)
def test_what_is_lost_long_after_it_was_written_is_found_by_comparing_though_the_mark_is_right(
    broker: Broker, redis_url: str, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """As when one node of a Redis Cluster goes back, and the mark is on another."""
    often = timedelta(milliseconds=1)
    monkeypatch.setattr(indexer, "_SETTLE_S", 0.1)
    settings = IndexerSettings(
        shards=1, redis_url=redis_url, indexer_check_every=often, indexer_compare_every=timedelta(milliseconds=100)
    )
    with connect(settings) as client:
        redis: Any = client
        redis.hset(keys.counts(0), "demo:7", 3)
        redis.hset(keys.offset(0), "offset", 5)
        whole_at, went_back = list[float](), list[bool]()

        def is_mended() -> bool:
            if redis.exists(*WRITTEN) == len(WRITTEN):
                whole_at.append(time.monotonic())
                if not went_back and whole_at[-1] - whole_at[0] > 0.5:
                    went_back.append(bool(redis.delete(lost)))
                    return False
                return bool(went_back)
            return False

        run(settings, broker, redis, until=is_mended)
        assert went_back == [True]
        assert redis.exists(*WRITTEN) == len(WRITTEN)


def run(settings: IndexerSettings, broker: Broker, client: Any, *, until: Callable[[], bool]) -> None:
    """Run an indexer, subscribe an audience when it has written the listing whole, and end it when all is well or
    patience ends."""
    patience, turns = time.monotonic() + PATIENCE_S, count()

    def stopping() -> bool:
        if (turn := next(turns)) == SETTLED_AFTER_TURNS:
            value = CODEC.encode("AudienceSubscription", SUBSCRIPTION)
            broker.append(Outgoing(SUBSCRIPTIONS, 0, b"demo:7", value))
        return time.monotonic() > patience or (turn > 2 * SETTLED_AFTER_TURNS and until())

    Indexer(
        settings,
        consumer=cast(Any, WholeTopics(broker)),
        client=client,
        store=ShardStore(client, settings),
        codec=CODEC,
        last_states=Mock(),
        stopping=stopping,
    ).run()
