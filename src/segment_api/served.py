"""Saved segments at decision time: which of them a visitor matches, and the rows of those that are served to SDKs."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.redis import keys
from audience_core.redis.connect import AsyncRedis, async_redis_faults
from segment_api.accounts import AccountCache, is_active
from segment_api.cache import AccountValues
from segment_api.rows import LEFT_SHOWN_MS, shown_members
from segment_api.rules import Rule, matches
from segment_api.saved_segments import Segment, parse_segments

MAX_ACCOUNTS = 10_000
MAX_AGE_S = 1.0
EMPTY_MAX_AGE_S = 5.0


@dataclass(frozen=True)
class Served:
    """An account's served segments, and which of their audiences are subscribed and not empty."""

    segments: Sequence[Segment]
    populated: frozenset[int]

    def values(self, members: AbstractSet[int], changed: Mapping[int, int], now_ms: int) -> dict[str, str]:
        """Segment of a row → value. `members`: audiences that the visitor is in; `changed`: audience → when, in ms.

        As for audiences, a row does not simply vanish: who matches no more, or may have matched, within the last hour
        gets the value `left`.
        """
        found: dict[str, str] = {}
        for segment in self.segments:
            if matches(segment.rule, members, self.populated):
                found[f"segment:{segment.id}"] = "member"
            elif any(now_ms - changed[a] < LEFT_SHOWN_MS for a in segment.rule.audiences if a in changed):
                found[f"segment:{segment.id}"] = "left"
        return found


NONE_SERVED = Served((), frozenset())


class ServedCache:
    """Served segments of the accounts asked for lately. Raises RedisUnavailable."""

    def __init__(self, client: AsyncRedis, accounts: AccountCache) -> None:
        self._client: Any = client
        self._accounts = accounts
        # a saved segment changes the account's version; whether an audience is empty does not, hence the short age
        self._served = AccountValues(
            self._load,
            max_age_s=lambda served: MAX_AGE_S if served.segments else EMPTY_MAX_AGE_S,
            max_accounts=MAX_ACCOUNTS,
        )

    def may_serve(self, account: str) -> bool:
        """Whether the account had any served segment when last seen; True when it was never seen."""
        known = self._served.peek(account)
        return known is None or bool(known.segments)

    async def of(self, account: str, version: str | None) -> Served:
        """Return the account's served segments as of a version of its catalog."""
        return await self._served.get(account, version)

    def current(self, account: str, version: str | None) -> Served | None:
        """As of, but None when that would have to ask Redis."""
        return self._served.current(account, version)

    async def _load(self, account: str, version: str | None) -> Served:
        async with async_redis_faults("reading the served segments"):
            stored = await self._client.hvals(keys.segments(account))
        segments = [segment for segment in parse_segments(stored) if segment.served]
        if not segments:
            return NONE_SERVED
        named = sorted(frozenset[int]().union(*(segment.rule.audiences for segment in segments)))
        catalog = (await self._accounts.view(account, version)).catalog
        async with async_redis_faults("reading the listing"):
            scores = await self._scores(account, named)
        populated = (a for a, score in zip(named, scores, strict=True) if score is not None and is_active(catalog, a))
        return Served(segments, frozenset(populated))

    async def _scores(self, account: str, named: list[int]) -> list[float | None]:
        if not named:
            return []
        found: list[float | None] = await self._client.zmscore(keys.index(account), [str(a) for a in named])
        return found


class SegmentMatcher:
    """Asks whether a visitor matches a rule now. Raises RedisUnavailable."""

    def __init__(self, client: AsyncRedis, accounts: AccountCache, shards: int) -> None:
        self._client: Any = client
        self._accounts = accounts
        self._shards = shards

    async def matches(self, account: str, rule: Rule, mpid: str) -> bool:
        """Whether the visitor matches. One who was erased matches nothing, also no NOT."""
        named = sorted(rule.audiences)
        if not named:
            return False
        of_visitor = keys.of_visitor(shard_of(visitor_key(account, mpid), self._shards), account, mpid)
        async with async_redis_faults("reading a visitor"):
            pipe = self._client.pipeline(transaction=False)
            pipe.smembers(of_visitor.members)
            pipe.exists(of_visitor.suppression)
            pipe.hget(keys.CATALOG_VERSIONS, account)
            pipe.zmscore(keys.index(account), [str(audience_id) for audience_id in named])
            members, erased, version, scores = await pipe.execute()
        if erased and not members:
            return False
        catalog = (await self._accounts.view(account, version)).catalog
        populated = {a for a, score in zip(named, scores, strict=True) if score is not None and is_active(catalog, a)}
        return matches(rule, shown_members(members, catalog).keys(), populated)
