"""What a worker tells while it is far behind, and that it is silent otherwise."""

import math

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from audience_core.redis.shard_store import Applied
from membership_worker.catching_up import FAR, NEAR, CatchingUp
from membership_worker.shard import Shard


class Log:
    """Ends of the shards' logs, as far as they are known."""

    def __init__(self) -> None:
        self.ends: dict[int, int | None] = {0: 100_000, 1: 100_000}

    def __call__(self, shard: int) -> int | None:
        return self.ends[shard]


@pytest.fixture
def ends() -> Log:
    return Log()


@pytest.fixture
def shards() -> dict[int, Shard]:
    return {number: Shard(number, None, 0) for number in (0, 1)}


def applied(catching_up: CatchingUp, shard: Shard, records: int) -> None:
    """As the worker does after a batch, of two changes a record."""
    shard.position += records
    catching_up.applied(records, Applied(records, 0, records, 0, 0, 0, {}))


def left() -> tuple[float | None, float | None]:
    return tuple(REGISTRY.get_sample_value(f"audience_worker_left_{unit}") for unit in ("records", "seconds"))  # type: ignore[return-value]


def test_an_empty_redis_is_told_from_the_first_look_to_the_last(ends: Log, shards: dict[int, Shard]) -> None:
    catching_up = CatchingUp(ends)
    catching_up.look({}, 1000.0)  # before the group has given anything
    with capture_logs() as told:
        for second in range(1, 21):
            applied(catching_up, shards[0], 5_000)
            applied(catching_up, shards[1], 5_000)
            catching_up.look(shards, 1000.0 + second)
            if second == 5:
                assert left() == (150_000, 15)
    assert [line["event"] for line in told] == ["catching_up", "catching_up", "caught_up"]
    first, later, last = told
    assert (first["done"], first["left"], first["eta_s"]) == (10_000, 190_000, None)
    assert (later["done"], later["left"], later["eta_s"]) == (110_000, 90_000, 9)
    assert (later["records_per_s"], later["changes_per_s"]) == (10_000, 20_000)
    assert (last["records"], last["changes"], last["seconds"]) == (200_000, 400_000, 20)
    assert left() == (0, 0)


def test_a_busy_worker_that_keeps_up_says_nothing(ends: Log, shards: dict[int, Shard]) -> None:
    catching_up = CatchingUp(ends)
    for shard in shards.values():
        shard.position = 100_000 - FAR // 2 + 1
    with capture_logs() as told:
        for second in range(30):
            catching_up.look(shards, 1000.0 + second)
    assert told == []
    assert left() == (FAR - 2, 0)


def test_it_is_not_caught_up_before_little_is_left(ends: Log, shards: dict[int, Shard]) -> None:
    catching_up = CatchingUp(ends)
    catching_up.look(shards, 1000.0)
    with capture_logs() as told:
        for position in (100_000 - NEAR // 2, 100_000 - NEAR // 2 + 1):
            for shard in shards.values():
                shard.position = position
            catching_up.look(shards, 1001.0)
    assert [line["event"] for line in told] == ["caught_up"]


def test_a_redis_that_went_back_is_told_anew(ends: Log, shards: dict[int, Shard]) -> None:
    catching_up = CatchingUp(ends)
    for shard in shards.values():
        shard.position = 100_000
    catching_up.look(shards, 1000.0)
    shards[1] = Shard(1, 20_000, 20_000)
    with capture_logs() as told:
        catching_up.look(shards, 1001.0)
        applied(catching_up, shards[1], 80_000)
        catching_up.look(shards, 1003.0)
    assert [line["event"] for line in told] == ["catching_up", "caught_up"]
    assert (told[1]["records"], told[1]["seconds"]) == (80_000, 3)


def test_while_an_end_is_unknown_nothing_is_called_caught_up(ends: Log, shards: dict[int, Shard]) -> None:
    catching_up = CatchingUp(ends)
    catching_up.look(shards, 1000.0)
    ends.ends[1] = None
    with capture_logs() as told:
        applied(catching_up, shards[0], 100_000)
        catching_up.look(shards, 1001.0)
    assert told == []
    assert left()[0] == 200_000


def test_a_log_that_grows_as_fast_as_it_is_read_has_no_end_in_sight(ends: Log, shards: dict[int, Shard]) -> None:
    catching_up = CatchingUp(ends)
    with capture_logs() as told:
        for second in range(12):
            catching_up.look(shards, 1000.0 + second)
            applied(catching_up, shards[0], 1_000)
            ends.ends[0] = (ends.ends[0] or 0) + 1_000
    assert told[-1]["eta_s"] is None
    assert told[-1]["records_per_s"] == 1_000
    assert left() == (200_000, math.inf)


def test_shards_that_go_to_another_worker_are_no_progress(ends: Log, shards: dict[int, Shard]) -> None:
    catching_up = CatchingUp(ends)
    with capture_logs() as told:
        for second in range(10):
            catching_up.look(shards, 1000.0 + second)
            applied(catching_up, shards[0], 1_000)
        del shards[1]
        for second in range(10, 12):
            catching_up.look(shards, 1000.0 + second)
            applied(catching_up, shards[0], 1_000)
    assert told[-1]["shards"] == 1
    assert left() == (89_000, 89)


def test_a_worker_without_shards_has_nothing_left(ends: Log, shards: dict[int, Shard]) -> None:
    catching_up = CatchingUp(ends)
    catching_up.look(shards, 1000.0)
    with capture_logs() as told:
        catching_up.look({}, 1001.0)
    assert told == []
    assert left() == (0, 0)
