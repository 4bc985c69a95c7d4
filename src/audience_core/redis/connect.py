"""Connections to Redis, and how its faults become ours. The only place where clients are made."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import redis
import redis.asyncio
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)
from redis.retry import Retry

from audience_core.errors import RedisUnavailable
from audience_core.settings import CoreSettings

Redis = redis.Redis
AsyncRedis = redis.asyncio.Redis

_RETRYABLE_REPLIES = ("LOADING", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS", "BUSY", "UNBLOCKED", "MISCONF")


def connect(settings: CoreSettings) -> Redis:
    """Make a client; it connects on its first call. No call is repeated by the client itself: a script that timed out
    may have run, and only the caller knows how to find out."""
    options = _options(settings) | {"retry": Retry(NoBackoff(), 0)}
    url = settings.redis_url.get_secret_value()
    if settings.redis_mode == "cluster":
        return cast(Redis, redis.RedisCluster.from_url(url, **options))
    return Redis.from_url(url, **options)


def connect_async(settings: CoreSettings) -> AsyncRedis:
    """Make an asyncio client; as connect."""
    options = _options(settings) | {"retry": AsyncRetry(NoBackoff(), 0)}
    url = settings.redis_url.get_secret_value()
    if settings.redis_mode == "cluster":
        return cast(AsyncRedis, redis.asyncio.RedisCluster.from_url(url, **options))
    # a crowd waits for a connection; redis-py's ordinary pool would call it a failure of Redis
    bounds = {"max_connections": settings.redis_connections, "timeout": settings.redis_timeout.total_seconds()}
    return AsyncRedis.from_pool(BlockingConnectionPool.from_url(url, **options, **bounds))


def _options(settings: CoreSettings) -> dict[str, Any]:
    timeout = settings.redis_timeout.total_seconds()
    return {
        "decode_responses": True,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "health_check_interval": 15,
    }


@contextmanager
def redis_faults(doing: str) -> Iterator[None]:
    """Turn Redis's passing faults into RedisUnavailable; let everything else through."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OutOfMemoryError, ClusterDownError) as error:
        raise RedisUnavailable(f"Redis failed while {doing}: {type(error).__name__}; trying again later") from error
    except ResponseError as error:
        if str(error).startswith(_RETRYABLE_REPLIES):
            raise RedisUnavailable(f"Redis is not ready while {doing}: {str(error).split()[0]}") from error
        raise


@asynccontextmanager
async def async_redis_faults(doing: str) -> AsyncIterator[None]:
    """As redis_faults, around awaits."""
    with redis_faults(doing):
        yield
