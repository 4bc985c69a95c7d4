"""Bounds on waiting end what waits too long, in order, and nothing else."""

import asyncio
import time

import pytest

from ingest_gateway.bounds import Bound, TaskBound


def test_each_is_told_when_its_own_time_is_over_and_who_has_ended_is_not() -> None:
    async def scene() -> list[tuple[str, float]]:
        told: list[tuple[str, float]] = []
        bound: Bound[str] = Bound(0.1, lambda one: told.append((one, time.monotonic() - started)))
        started = time.monotonic()
        bound.begin("first")
        bound.begin("ended")
        await asyncio.sleep(0.05)
        bound.begin("second")
        bound.begin("again")
        bound.end("ended")
        bound.end("never begun")
        await asyncio.sleep(0.03)
        bound.begin("again")
        await asyncio.sleep(0.2)
        bound.begin("later")
        await asyncio.sleep(0.15)
        return told

    told = asyncio.run(scene())
    assert [one for one, _ in told] == ["first", "second", "again", "later"]
    for (_, at), due in zip(told, (0.1, 0.15, 0.18, 0.38), strict=True):
        assert due - 0.001 <= at < due + 0.1


def test_a_task_that_waits_too_long_gets_a_timeout_and_goes_on() -> None:
    async def scene() -> str:
        bound = TaskBound(0.05)
        with pytest.raises(TimeoutError), bound.within():
            await asyncio.sleep(10)
        with bound.within():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # nothing comes afterwards
        return "gone on"

    assert asyncio.run(scene()) == "gone on"


def test_a_task_that_somebody_else_cancels_ends() -> None:
    async def scene() -> None:
        bound = TaskBound(0.05)

        async def wait() -> None:
            with bound.within():
                await asyncio.sleep(10)

        early, both = asyncio.create_task(wait()), asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        early.cancel()
        with pytest.raises(asyncio.CancelledError):
            await early
        asyncio.get_running_loop().call_later(0.04, both.cancel)
        time.sleep(0.06)  # noqa: ASYNC251 - both are due in the same turn of the loop
        with pytest.raises(asyncio.CancelledError):
            await both

    asyncio.run(scene())


def test_an_error_of_the_task_is_not_a_timeout() -> None:
    async def scene() -> None:
        with TaskBound(1).within():
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(scene())
