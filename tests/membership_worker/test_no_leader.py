"""A shard whose log has no leader, so that nobody tells where it begins."""

import math
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from audience_core.errors import KafkaUnavailable, ShardRefused
from audience_core.redis.shard_store import ShardStore
from audience_core.topics import ERASURES
from membership_worker.progress import Progress
from membership_worker.settings import WorkerSettings
from membership_worker.shard import OUTSIDE_S
from membership_worker.shards import Shards
from tests.membership_worker.working import open_store, work_until_told
from tests.simulation.scheduler import Scheduler
from tests.simulation.simulated_kafka import Broker, Group, GroupConsumer

SECOND_S = 1.0


class Silent(Broker):
    """Gives records, and tells nothing about its logs."""

    def starts(self, _shards: list[int]) -> dict[int, int]:
        raise KafkaUnavailable("no leader")


def test_shards_are_read_though_nobody_tells_where_their_logs_begin(scheduler: Scheduler, redis_url: str) -> None:
    broker = Silent(scheduler, shards=1)
    broker.flaky = False
    settings = WorkerSettings(shards=1, redis_url=redis_url)
    with open_store(settings, ShardStore) as store:
        work_until_told(settings, broker, scheduler, store)
    assert broker.logs[ERASURES, 0]


class Log:
    """One shard, assigned and taken, of a log that may have a leader."""

    def __init__(self, broker: Broker, scheduler: Scheduler) -> None:
        self.has_leader = True
        self.asked = 0
        self.shards = Shards(
            cast(Any, GroupConsumer(broker, Group(scheduler, 1))),
            cast(Any, SimpleNamespace(locate=lambda _: None)),
            "topic-1",
            starts=self._starts,
            progress=Progress(math.inf, broker.starts),
            accept_partial=False,
            watch=cast(Any, SimpleNamespace(ask=lambda: None, check=lambda: None)),
        )
        self.shards.subscribe()
        self.shards._consumer.poll(0)  # noqa: SLF001 - the loop does it
        self.shards.take_waiting()

    def _starts(self, numbers: list[int]) -> dict[int, int]:
        self.asked += 1
        return dict.fromkeys(numbers, 0) if self.has_leader else {}


@pytest.fixture
def log(broker: Broker, scheduler: Scheduler) -> Log:
    return Log(broker, scheduler)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock shows."""
    shown = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: shown[0])
    return shown


def test_a_record_that_a_leader_misses_for_long_is_refused(log: Log, now: list[float]) -> None:
    for _ in range(round(OUTSIDE_S)):
        log.shards.out_of_range(0)
        now[0] += SECOND_S
    with pytest.raises(ShardRefused, match="records were lost at its end"):
        log.shards.out_of_range(0)


def test_what_is_said_while_there_is_no_leader_refuses_nothing(log: Log, now: list[float]) -> None:
    log.has_leader = False
    for _ in range(3 * round(OUTSIDE_S)):
        log.shards.out_of_range(0)
        now[0] += SECOND_S
    log.has_leader = True
    now[0] += SECOND_S * 10
    log.shards.out_of_range(0)
    assert log.shards.taken.keys() == {0}


def test_a_broker_that_does_not_answer_is_not_asked_for_each_shard(log: Log, now: list[float]) -> None:
    log.has_leader, log.asked = False, 0
    for _ in range(64):
        log.shards.rewind(0)
    assert log.asked == 1
    now[0] += SECOND_S * 10
    log.has_leader = True
    assert log.shards.rewind(0)
