"""Saved segments: a name, a rule, and whether SDKs get a row. The only way to them, for the API and the console."""

import json
import secrets
import time
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, Field

from audience_core.domain.members import iso_time
from audience_core.errors import LimitReached, NotFound
from audience_core.redis import keys, scripts
from audience_core.redis.connect import AsyncRedis, async_redis_faults
from segment_api.errors import InvalidField
from segment_api.rules import Rule

MAX_SEGMENTS = 1000
MAX_SERVED = 50
"""Served segments of an account: each one is judged for every answer to an SDK."""
NAME_MAX_CHARS = 255


class Segment(BaseModel):
    """A saved segment; the times are ISO-8601."""

    id: str
    name: str
    rule: Rule
    served: bool = Field(description="whether the SDKs' answer has a row `segment:<id>` for those who match")
    created_at: str
    updated_at: str


def parse_segments(stored: Iterable[str]) -> list[Segment]:
    """Read the values of the hash, oldest first."""
    found = (Segment.model_validate_json(text) for text in stored)
    return sorted(found, key=lambda segment: (segment.created_at, segment.id))


class SegmentStore:
    """Reads and writes saved segments.

    Methods raise NotFound (no such account or segment), InvalidField (a name or a rule breaks a limit), LimitReached
    or RedisUnavailable.
    """

    def __init__(self, client: AsyncRedis) -> None:
        self._client: Any = client

    async def create(self, account: str, name: str, rule: Rule, *, served: bool = False) -> Segment:
        """Save a new segment. Every audience that it names must be subscribed."""
        _check_name(name)
        stored = await self._entries(account)
        await self._check_audiences(account, rule.audiences)
        _check_room(stored, served=served)
        now = _now()
        segment = Segment(id=secrets.token_hex(8), name=name, rule=rule, served=served, created_at=now, updated_at=now)
        async with async_redis_faults("saving a segment"):
            await self._client.hset(keys.segments(account), segment.id, segment.model_dump_json())
            await self._announce(account)
        return segment

    async def list(self, account: str) -> list[Segment]:
        """Segments of an account, oldest first."""
        stored = await self._entries(account)
        return parse_segments(stored.values())

    async def get(self, account: str, segment_id: str) -> Segment:
        """One segment."""
        return Segment.model_validate_json(await self._entry(account, segment_id))

    async def update(self, account: str, segment_id: str, name: str, rule: Rule, *, served: bool = False) -> Segment:
        """Replace name, rule and `served`. An audience that was removed meanwhile may stay in the rule."""
        _check_name(name)
        while True:
            before = await self._entry(account, segment_id)
            current = Segment.model_validate_json(before)
            await self._check_audiences(account, rule.audiences - current.rule.audiences)
            if served and not current.served:
                _check_room(await self._entries(account), served=True, new=0)
            changed = current.model_copy(update={"name": name, "rule": rule, "served": served, "updated_at": _now()})
            async with async_redis_faults("saving a segment"):
                args = [segment_id, before, changed.model_dump_json()]
                # a segment that somebody deletes meanwhile must not come back
                if await scripts.call_async(self._client, "compare_and_set", [keys.segments(account)], args):
                    await self._announce(account)
                    return changed

    async def duplicate(self, account: str, segment_id: str) -> Segment:
        """Save a copy under the name `Copy of …`, not served."""
        original = await self.get(account, segment_id)
        _check_room(await self._entries(account), served=False)
        now = _now()
        name = f"Copy of {original.name}"[:NAME_MAX_CHARS]
        fields = {"id": secrets.token_hex(8), "name": name, "served": False, "created_at": now, "updated_at": now}
        copied = original.model_copy(update=fields)
        async with async_redis_faults("saving a segment"):
            await self._client.hset(keys.segments(account), copied.id, copied.model_dump_json())
        return copied

    async def delete(self, account: str, segment_id: str) -> None:
        """Delete a segment."""
        await self._entry(account, segment_id)
        async with async_redis_faults("deleting a segment"):
            await self._client.hdel(keys.segments(account), segment_id)
            await self._announce(account)

    async def _entry(self, account: str, segment_id: str) -> str:
        async with async_redis_faults("reading a segment"):
            pipe = self._client.pipeline(transaction=False)
            pipe.hexists(keys.ACCOUNTS, account)
            pipe.hget(keys.segments(account), segment_id)
            known, found = await pipe.execute()
        _check_account(account, known=known)
        if found is None:
            raise NotFound(f"account {account} has no segment {segment_id}")
        return str(found)

    async def _entries(self, account: str) -> dict[str, str]:
        async with async_redis_faults("listing segments"):
            pipe = self._client.pipeline(transaction=False)
            pipe.hexists(keys.ACCOUNTS, account)
            pipe.hgetall(keys.segments(account))
            known, stored = await pipe.execute()
        _check_account(account, known=known)
        return dict(stored)

    async def _check_audiences(self, account: str, audience_ids: frozenset[int]) -> None:
        if not audience_ids:
            return
        wanted = sorted(audience_ids)
        async with async_redis_faults("reading the catalog"):
            states = await self._client.hmget(keys.catalog(account), [str(audience_id) for audience_id in wanted])
        unknown = [
            str(audience_id)
            for audience_id, text in zip(wanted, states, strict=True)
            if text is None or json.loads(text)["status"] != "ACTIVE"
        ]
        if unknown:
            raise InvalidField(f"body.rule: not a subscribed audience: {', '.join(unknown[:5])}")

    async def _announce(self, account: str) -> None:
        """Make the caches of the SDKs' endpoint read again, in every process, with their next request."""
        await self._client.hincrby(keys.CATALOG_VERSIONS, account, 1)


def _check_account(account: str, *, known: bool) -> None:
    if not known:
        raise NotFound(f"there is no account {account}")


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= NAME_MAX_CHARS:
        raise InvalidField(f"body.name: must be 1 to {NAME_MAX_CHARS} characters")


def _check_room(stored: dict[str, str], *, served: bool, new: int = 1) -> None:
    if len(stored) + new > MAX_SEGMENTS:
        raise LimitReached(f"the account has {MAX_SEGMENTS} segments, which is the limit; delete some")
    if served and sum(json.loads(text)["served"] for text in stored.values()) >= MAX_SERVED:
        raise LimitReached(f"the account serves {MAX_SERVED} segments to SDKs, which is the limit; serve fewer")


def _now() -> str:
    return iso_time(time.time_ns() // 1_000_000)
