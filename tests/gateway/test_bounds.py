"""Bounds on waiting end what waits too long, in order, and nothing else."""

import asyncio
import time

from ingest_gateway.bounds import Bound


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
