"""How many shards the state in Redis has. The first worker stores it.

A process with another number would look for a visitor in the wrong shard, and nothing that it reads or writes would
tell: so nobody with another number runs.
"""

import asyncio
from contextlib import suppress
from typing import NoReturn, cast

from audience_core.errors import RedisUnavailable, ShardRefused
from audience_core.redis import keys
from audience_core.redis.connect import AsyncRedis, Redis, async_redis_faults, redis_faults

_WATCH_EVERY_S = 1.0
_READING = "reading the number of shards"


def claim_shard_count(client: Redis, shards: int) -> None:
    """Store the number on first use. Raises ShardRefused when another one is stored, RedisUnavailable."""
    with redis_faults(_READING):
        client.setnx(keys.SHARD_COUNT, shards)
    check_shard_count(client, shards)


def check_shard_count(client: Redis, shards: int) -> None:
    """Store nothing. Raises ShardRefused when another number is stored, RedisUnavailable."""
    with redis_faults(_READING):
        stored = cast("str | None", client.get(keys.SHARD_COUNT))
    _compare(stored, shards)


async def ask_shard_count(client: AsyncRedis, shards: int) -> None:
    """As check_shard_count; that Redis can't be asked is no objection."""
    with suppress(RedisUnavailable):
        async with async_redis_faults(_READING):
            stored = cast("str | None", await client.get(keys.SHARD_COUNT))
        _compare(stored, shards)


async def watch_shard_count(client: AsyncRedis, shards: int) -> NoReturn:
    """Ask again and again: a number may be stored later, and Redis may be away at the start. Raises ShardRefused."""
    while True:
        await ask_shard_count(client, shards)
        await asyncio.sleep(_WATCH_EVERY_S)


def _compare(stored: str | None, shards: int) -> None:
    if stored is not None and int(stored) != shards:
        raise ShardRefused(
            f"Redis holds state of {stored} shards, AUDIENCE_SHARDS is {shards}; set AUDIENCE_SHARDS={stored}, or "
            "rebuild into an empty Redis from a topic with the new number of partitions"
        )
