"""What the gateway hears of each account: when it last spoke, its latest requests, and the changes of each minute.

It is kept for people who look for a fault. It holds no body, key, MPID or identity, and nothing is decided by it.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from audience_core.domain.health import Health, health_of
from audience_core.redis import keys
from audience_core.redis.connect import AsyncRedis, async_redis_faults

KEPT_REQUESTS = 500
SERIES_S = 86_400
HISTORY_S = 7 * 86_400
_MINUTE_MS, _HOUR_MS = 60_000, 3_600_000
_CHUNK = 100
_REJECTED = "rejected:"
KEY_FIELD = "key:"
"""Prefix of the fields that say when an API key was last used."""


@dataclass(frozen=True)
class RequestNote:
    """One request, as far as it may be remembered. `at` in ms since the epoch, `latency_ms` in ms."""

    at: int
    type: str
    status: int
    changes: int
    """membership changes that were accepted"""
    latency_ms: float
    reason: str | None
    """code of why the request or something in it was refused"""
    key_id: str | None


@dataclass(frozen=True)
class ListedRequest(RequestNote):
    """A request of the stream; `id` says where to go on."""

    id: str


@dataclass
class Heard:
    """What is new of one account since the last write."""

    times: dict[str, int] = field(default_factory=dict)
    """`last_message`, `last_verification`, `last_change`, `last_refused`, `key:<id>` → ms"""
    rejected: Counter[str] = field(default_factory=Counter)
    """reason code → how often"""
    requests: list[RequestNote] = field(default_factory=list)
    refusals: int = 0
    """how many of the requests have a reason"""


Moment = tuple[str, int, str, int]
"""(account, audience id, `e` enter or `x` exit, minute since the epoch)"""


class ActivityStore:
    """Writes activity, some commands at a time: the event loop has answers to give. Raises RedisUnavailable."""

    def __init__(self, client: AsyncRedis) -> None:
        self._client: Any = client

    async def write(self, heard: dict[str | None, Heard]) -> None:
        """Add what was heard, by account; None: of requests that belong to no account."""
        await self._run([command for account, news in heard.items() for command in _commands(account, news)])

    async def write_changes(self, changes: Counter[Moment]) -> None:
        """Add how many enters and exits were received."""
        commands: list[_Command] = []
        touched: dict[str, None] = {}
        for (account, audience_id, direction, minute), count in changes.items():
            series = keys.activity_changes(account, audience_id, minute // 60)
            commands.append(("HINCRBY", series, f"{direction}{minute % 60}", count))
            touched[series] = None
        await self._run(commands + [("EXPIRE", series, SERIES_S + 3600) for series in touched])

    async def _run(self, commands: "list[_Command]") -> None:
        async with async_redis_faults("writing activity"):
            for first in range(0, len(commands), _CHUNK):
                pipe = self._client.pipeline(transaction=False)
                for command in commands[first : first + _CHUNK]:
                    pipe.execute_command(*command)
                await pipe.execute()


_Command = tuple[str | int, ...]


def _commands(account: str | None, news: Heard) -> Iterable[_Command]:
    key, requests = keys.activity(account or ""), keys.activity_requests(account)
    if news.times:
        yield ("HSET", key, *(part for pair in news.times.items() for part in pair))
        yield ("HSETNX", key, "since", min(news.times.values()))
    for reason, count in news.rejected.items():
        yield ("HINCRBY", key, _REJECTED + reason, count)
    for request in news.requests:
        yield ("XADD", requests, "MAXLEN", "~", KEPT_REQUESTS, "*", "request", json.dumps(asdict(request)))


@dataclass(frozen=True)
class AccountActivity:
    """What an account last did, in ms; None = never, or before anything was noted."""

    since: int | None
    """when noting began"""
    last_message: int | None
    """accepted with an active key, of any type"""
    last_verification: int | None
    """a membership message without profiles: mParticle checks that we are here"""
    last_change: int | None
    last_refused: int | None
    """with a revoked key"""
    rejected: dict[str, int]
    """reason code → how often, since `since`"""
    key_last_used: dict[str, int]
    """API key id → when"""
    last_unknown_key: int | None
    """of any sender: a key that belongs to no account"""

    def health(self, silence_ms: int, now: int) -> Health:
        """Judge the account's silence; times in ms."""
        return health_of(
            last_message=self.last_message,
            last_refused=self.last_refused,
            last_unknown_key=self.last_unknown_key,
            silence_ms=silence_ms,
            now=now,
        )


def parse_activity(stored: dict[str, str], unknown_key: str | None = None) -> AccountActivity:
    """Read an account's hash; `unknown_key`: when a key was last used that belongs to no account."""
    values = {name: int(value) for name, value in stored.items()}
    return AccountActivity(
        since=values.get("since"),
        last_message=values.get("last_message"),
        last_verification=values.get("last_verification"),
        last_change=values.get("last_change"),
        last_refused=values.get("last_refused"),
        rejected=_of_prefix(values, _REJECTED),
        key_last_used=_of_prefix(values, KEY_FIELD),
        last_unknown_key=int(unknown_key) if unknown_key else None,
    )


@dataclass(frozen=True)
class Minute:
    """Changes received in a minute, which begins at `at` (ms). Repeated messages count each time."""

    at: int
    enters: int
    exits: int


@dataclass(frozen=True)
class Series:
    """An audience over time. Minutes without a change are left out."""

    minutes: list[Minute]
    """of the last 24 hours"""
    counts: list[tuple[int, int]]
    """(ms, count at the end of that minute) whenever it changed, of the last 7 days"""


class ActivityReader:
    """Reads activity, for the API and the console. Methods raise RedisUnavailable; an unknown account has none."""

    def __init__(self, client: AsyncRedis) -> None:
        self._client: Any = client

    async def summary(self, account: str) -> AccountActivity:
        """When the account was last heard of, and what was refused."""
        async with async_redis_faults("reading activity"):
            pipe = self._client.pipeline(transaction=False)
            pipe.hgetall(keys.activity(account))
            pipe.hget(keys.activity(""), "last_refused")
            stored, unknown_key = await pipe.execute()
        return parse_activity(stored, unknown_key)

    async def requests(self, account: str | None, after_id: str = "", count: int = 100) -> list[ListedRequest]:
        """Requests in the order of arrival: the latest `count`, or those after the one with the id `after_id`.

        The stream keeps about 500. Under load it is a sample: per write at most 20 accepted and 20 refused ones.
        None reads the requests of no account: those with an unknown key or none.
        """
        key = keys.activity_requests(account)
        async with async_redis_faults("reading the latest requests"):
            if after_id:
                entries = await self._client.xrange(key, f"({after_id}", "+", count)
            else:
                entries = reversed(await self._client.xrevrange(key, "+", "-", count))
        return [ListedRequest(id=entry_id, **json.loads(entry["request"])) for entry_id, entry in entries]

    async def audience_series(self, account: str, audience_id: int) -> Series:
        """Enters and exits received per minute, and the count over time."""
        now = time.time_ns() // 1_000_000
        hours = range((now - SERIES_S * 1000) // _HOUR_MS, now // _HOUR_MS + 1)
        async with async_redis_faults("reading an audience's series"):
            pipe = self._client.pipeline(transaction=False)
            for hour in hours:
                pipe.hgetall(keys.activity_changes(account, audience_id, hour))
            pipe.lrange(keys.history(account, audience_id), 0, -1)
            *changes, history = await pipe.execute()
        minutes = [minute for hour, stored in zip(hours, changes, strict=True) for minute in _minutes(hour, stored)]
        return Series(
            [minute for minute in minutes if minute.at >= now - SERIES_S * 1000],
            [sample for sample in _samples(history) if sample[0] >= now - HISTORY_S * 1000],
        )


def _of_prefix(values: dict[str, int], prefix: str) -> dict[str, int]:
    return {name[len(prefix) :]: value for name, value in values.items() if name.startswith(prefix)}


def _minutes(hour: int, stored: dict[str, str]) -> Iterable[Minute]:
    for minute in sorted({int(name[1:]) for name in stored}):
        enters, exits = int(stored.get(f"e{minute}", 0)), int(stored.get(f"x{minute}", 0))
        yield Minute(hour * _HOUR_MS + minute * _MINUTE_MS, enters, exits)


def _samples(history: list[str]) -> Iterable[tuple[int, int]]:
    by_minute = {int(minute): int(count) for minute, _, count in (text.partition(":") for text in history)}
    return ((minute * _MINUTE_MS, count) for minute, count in sorted(by_minute.items()))
