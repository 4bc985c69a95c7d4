"""Counts over time, on a real Redis."""

import asyncio
import time

import redis

from audience_core.redis import keys
from audience_core.redis.activity import ActivityReader
from audience_core.redis.connect import connect, connect_async
from audience_core.redis.silence import count_late
from audience_core.settings import CoreSettings
from audience_indexer.history import MAX_SAMPLES, HistoryWriter

HOUR_MS = 3_600_000


def settings(redis_url: str) -> CoreSettings:
    return CoreSettings.model_validate({"redis_url": redis_url})


def counts(redis_url: str, audience_id: int) -> list[int]:
    async def read() -> list[int]:
        client = connect_async(settings(redis_url))
        series = await ActivityReader(client).audience_series("acme", audience_id)
        await client.aclose()
        assert [at for at, _ in series.counts] == sorted({at for at, _ in series.counts})
        return [count for _, count in series.counts]

    return asyncio.run(read())


def test_the_last_count_of_each_minute_with_a_change_is_kept(redis_url: str) -> None:
    with connect(settings(redis_url)) as client:
        history, minute = HistoryWriter(client), int(time.time() // 60)
        history.note([("acme", 7, 1), ("acme", 8, 1)])
        history.note([("acme", 7, 2)])
        history.write_due(minute)
        assert counts(redis_url, 7) == []
        history.write_due(minute + 1)
        assert (counts(redis_url, 7), counts(redis_url, 8)) == ([2], [1])
        history.note([("acme", 7, 5), ("acme", 8, 1)])
        history.write_due(minute + 2)
        assert (counts(redis_url, 7), counts(redis_url, 8)) == ([2, 5], [1])
        assert 0 < client.ttl(keys.history("acme", 7)) <= 7 * 86_400


def test_a_history_has_a_limit(redis_url: str) -> None:
    with connect(settings(redis_url)) as client:
        key = keys.history("acme", 7)
        client.rpush(key, *[f"{n}:1" for n in range(MAX_SAMPLES)])
        history = HistoryWriter(client)
        history.note([("acme", 7, 9)])
        history.write_due(int(time.time() // 60) + 1)
        assert client.llen(key) == MAX_SAMPLES
        assert counts(redis_url, 7) == [9]


def test_connectors_count_as_late_when_their_account_spoke_once_and_no_more(redis_url: str) -> None:
    now = 1_790_000_000_000
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        for account, connectors, heard in (
            ("never", 1, {}),
            ("ok", 1, {"last_message": now - HOUR_MS}),
            ("late", 2, {"last_message": now - HOUR_MS - 1}),
            ("refused", 1, {"last_message": now - 2, "last_refused": now - 1}),
            ("none", 0, {"last_message": 1}),
        ):
            client.hset(keys.ACCOUNTS, account, "{}")
            for n in range(connectors):
                client.hset(keys.connectors(account), str(n), "{}")
            if heard:
                client.hset(keys.activity(account), mapping=heard)
        assert count_late(client, HOUR_MS, now) == 3
