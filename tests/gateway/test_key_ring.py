"""The API keys that a running gateway knows, while keys are rotated and revoked and Redis goes back."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from audience_core.errors import RedisUnavailable
from audience_core.redis import keys
from audience_core.redis.connect import connect_async
from audience_core.redis.control import ControlStore, KeyRecord, NewKey
from audience_core.settings import CoreSettings
from ingest_gateway.caches import KeyRing, refresh_forever

PEPPER = b"pepper-of-the-tests"
Step = Callable[["Ring"], Awaitable[None]]


class Ring:
    """One key of one account, as a gateway sees it that reads the keys after each step."""

    def __init__(self, client: Any, grace: timedelta) -> None:
        self.client = client
        self.control = ControlStore(client, PEPPER, grace)
        self.keys = KeyRing(self.control, PEPPER)
        self.key: NewKey

    async def create(self) -> None:
        await self.control.create_account("demo", "Demo")
        self.key = await self.control.create_key("demo")
        self.backup = await self.client.hgetall(keys.API_KEYS)
        await self.keys.refresh()

    async def rotate(self) -> None:
        await self.control.rotate_key("demo", self.key["id"])

    async def revoke(self) -> None:
        await self.control.revoke_key("demo", self.key["id"])

    async def restore(self) -> None:
        """Redis goes back to just after the key was made, and something is changed after that."""
        await self.client.delete(keys.API_KEYS)
        await self.client.hset(keys.API_KEYS, mapping=self.backup)
        await self.client.incr(keys.API_KEYS_VERSION)

    async def empty(self) -> None:
        await self.client.flushdb()

    async def status(self) -> str | None:
        await self.keys.refresh()
        found = await self.keys.find(self.key["secret"])
        return found["status"] if found else None


def _play(redis_url: str, grace: timedelta, scene: Callable[[Ring], Awaitable[None]]) -> None:
    async def play() -> None:
        client = connect_async(CoreSettings(redis_url=redis_url))
        try:
            await scene(Ring(client, grace))
        finally:
            await client.aclose()

    asyncio.run(play())


def _after(redis_url: str, grace: timedelta, steps: list[Step]) -> list[str | None]:
    seen: list[str | None] = []

    async def scene(ring: Ring) -> None:
        await ring.create()
        seen.append(await ring.status())
        for step in steps:
            await step(ring)
            seen.append(await ring.status())

    _play(redis_url, grace, scene)
    return seen


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([Ring.revoke], "revoked"),
        ([Ring.rotate], "active"),
        ([Ring.rotate, Ring.revoke], "revoked"),
        ([Ring.revoke, Ring.restore], "revoked"),
        ([Ring.revoke, Ring.empty], "revoked"),
        ([Ring.rotate, Ring.revoke, Ring.restore], "revoked"),
        ([Ring.empty], "active"),
    ],
    ids=lambda steps: "-".join(step.__name__ for step in steps) if isinstance(steps, list) else steps,
)
def test_a_revoked_key_is_revoked_at_once_and_for_good(redis_url: str, steps: list[Step], expected: str) -> None:
    seen = _after(redis_url, timedelta(days=1), steps)
    assert seen[0] == "active"
    assert seen[-1] == expected


def test_a_key_that_is_revoked_while_it_is_looked_up_is_revoked(redis_url: str) -> None:
    async def scene(ring: Ring) -> None:
        await ring.create()
        control, look_up = ring.control, ring.control.key_record

        async def late(digest: str) -> KeyRecord | None:
            found = await look_up(digest)
            await ring.revoke()
            await ring.keys.refresh()
            return found

        ring.keys = KeyRing(control, PEPPER)
        control.key_record = late  # type: ignore[method-assign]
        found = await ring.keys.find(ring.key["secret"])
        assert found is not None
        assert found["status"] == "revoked"

    _play(redis_url, timedelta(days=1), scene)


def test_keys_are_read_again_after_any_fault_and_each_kind_is_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    faults: list[Exception | None] = [
        RedisUnavailable("away"),
        RedisUnavailable("away"),
        NoPermissionError("no right"),
        NoPermissionError("no right"),
        None,
        RedisUnavailable("away"),
    ]

    async def refresh() -> None:
        if not faults:
            raise asyncio.CancelledError
        if (fault := faults.pop(0)) is not None:
            raise fault

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(refresh_forever("keys", refresh, 0))
    assert capsys.readouterr().out.count("cache_not_refreshed") == 3


def test_a_rotated_key_ends_with_its_grace_though_redis_went_back_behind_the_rotation(redis_url: str) -> None:
    seen = _after(redis_url, timedelta(0), [Ring.rotate, Ring.restore])
    assert seen == ["active", "revoked", "revoked"]
