"""A worker whose client can't go on ends, and says so, instead of running on without a shard."""

from typing import Any

import pytest
from confluent_kafka import KafkaError

from audience_core.errors import KafkaRefused
from audience_core.redis.shard_store import ShardStore
from membership_worker.settings import WorkerSettings
from tests.membership_worker.working import open_store, work_until_told
from tests.simulation.scheduler import Scheduler
from tests.simulation.simulated_kafka import Broker, EndOfPartition, GroupConsumer


class Refusal(EndOfPartition):
    def error(self) -> KafkaError:
        return KafkaError(KafkaError._FATAL, "no such protocol here")  # noqa: SLF001 - its only name


class Refused(GroupConsumer):
    def consume(self, limit: int, timeout: float) -> list[Any]:
        return super().consume(limit, timeout) or [Refusal("", -1)]


def test_an_error_that_the_client_calls_fatal_ends_the_worker(
    broker: Broker, scheduler: Scheduler, redis_url: str
) -> None:
    settings = WorkerSettings(shards=1, redis_url=redis_url)
    refused = pytest.raises(KafkaRefused, match=r"gave up for good: no such protocol here")
    with open_store(settings, ShardStore) as store, refused:
        work_until_told(settings, broker, scheduler, store, Refused)
