"""How many shards the state in Redis has. The first worker stores it.

A process with another number would look for a visitor in the wrong shard, and nothing that it reads or writes would
tell: so nobody with another number works.
"""

import asyncio
from typing import NoReturn, cast

from audience_core.errors import RedisUnavailable, ShardRefused
from audience_core.observability.logging import get_logger
from audience_core.redis import keys
from audience_core.redis.connect import AsyncRedis, Redis, async_redis_faults, redis_faults

_EVERY_S = 1.0
_READING = "reading the number of shards"

log = get_logger()


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


class ShardCountWatch:
    """Asks for the number while a service runs: it may be stored later, and Redis may be away at the start.

    That Redis can't be asked is no objection, whatever the reason: no fault of Redis ends a service.
    """

    def __init__(self, client: AsyncRedis, shards: int) -> None:
        self._client = client
        self._shards = shards
        self._told = ""

    async def ask(self) -> None:
        """Ask once. Raises ShardRefused."""
        try:
            async with async_redis_faults(_READING):
                stored = cast("str | None", await self._client.get(keys.SHARD_COUNT))
        except RedisUnavailable:
            return  # who needs Redis for more than this tells it
        except Exception as error:  # noqa: BLE001 - a missing right, a fault of the client in a changing cluster: told
            if self._told != type(error).__name__:
                log.error("shard_count_not_read", error=type(error).__name__, reason=str(error))
            self._told = type(error).__name__
            return
        self._told = ""
        _compare(stored, self._shards)

    async def forever(self) -> NoReturn:
        """Ask again and again. Raises ShardRefused."""
        while True:
            await self.ask()
            await asyncio.sleep(_EVERY_S)


def _compare(stored: str | None, shards: int) -> None:
    if stored is not None and stored != str(shards):
        raise ShardRefused(
            f"Redis holds state of {stored} shards, AUDIENCE_SHARDS is {shards}; set AUDIENCE_SHARDS={stored}, or "
            "rebuild into an empty Redis from a topic with the new number of partitions"
        )
