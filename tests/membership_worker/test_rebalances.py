"""A rebalance that comes while the worker assigns by itself."""

from typing import Any

from confluent_kafka import TopicPartition

from audience_core.redis.shard_store import ShardStore
from audience_core.topics import ERASURES
from membership_worker.settings import WorkerSettings
from tests.membership_worker.working import open_store, work_until_told
from tests.simulation.scheduler import Scheduler
from tests.simulation.simulated_kafka import Broker, GroupConsumer

FIRST, SECOND, THIRD = range(3)
SECOND_AT_TURN = 3


class GivenAThird(GroupConsumer):
    """It has one shard, is given a second, and while it takes that, a third: so the first one stays paused."""

    turns = 0

    def _is_given(self, *shards: int) -> None:
        self._group.members[self] = set(shards)

    def subscribe(self, _topics: list[str], **callbacks: Any) -> None:
        super().subscribe(_topics, **callbacks)
        self._is_given(FIRST)

    def consume(self, limit: int, timeout: float) -> list[Any]:
        self.turns += 1
        if self.turns == SECOND_AT_TURN:
            self._is_given(FIRST, SECOND)
        return super().consume(limit, timeout)

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        if [partition.partition for partition in partitions] == [SECOND]:
            self._is_given(FIRST, SECOND, THIRD)
        super().incremental_assign(partitions)


def test_a_shard_that_is_kept_through_it_is_read_on(scheduler: Scheduler, redis_url: str) -> None:
    broker = Broker(scheduler, shards=3)
    broker.flaky = False
    settings = WorkerSettings(shards=3, redis_url=redis_url)
    with open_store(settings, ShardStore) as store:
        work_until_told(settings, broker, scheduler, store, GivenAThird)
    assert broker.logs[ERASURES, FIRST]
