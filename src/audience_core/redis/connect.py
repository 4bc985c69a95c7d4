"""Connections to Redis, and how its faults become ours. The only place where clients are made."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import redis
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.cluster
import redis.connection
import redis.sentinel
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    SlotNotCoveredError,
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

_NO_NODE = "Redis Cluster cannot be connected"  # the library has no error of its own for it


def connect(settings: CoreSettings) -> Redis:
    """Make a client; it connects on its first call (to a Redis Cluster at once, for the map of its slots).

    No call is repeated by the client itself: a script that timed out may have run, and only the caller knows how to
    find out. Raises RedisUnavailable.
    """
    options = _options(settings) | {"retry": Retry(NoBackoff(), 0)}
    url = settings.redis_url.get_secret_value()
    if settings.redis_mode == "cluster":
        nodes = [_untyped.cluster.ClusterNode(host, port) for host, port in settings.redis_addresses]
        with redis_faults("reading the map of the cluster"):
            return cast(Redis, redis.RedisCluster.from_url(url, startup_nodes=nodes, **options))
    if settings.redis_mode == "sentinel":
        master, given = _master(url)
        sentinel = _untyped.sentinel.Sentinel(settings.redis_addresses, sentinel_kwargs=_timeouts(settings))
        return cast(Redis, sentinel.master_for(master, **given, **options, **_FAILOVER))
    return Redis.from_url(url, **options, **_FAILOVER)


def connect_async(settings: CoreSettings) -> AsyncRedis:
    """Make an asyncio client; as connect, but it never connects before its first call."""
    options = _options(settings) | {"retry": AsyncRetry(NoBackoff(), 0)}
    url = settings.redis_url.get_secret_value()
    if settings.redis_mode == "cluster":
        nodes = [_untyped.asyncio.cluster.ClusterNode(host, port) for host, port in settings.redis_addresses]
        return cast(AsyncRedis, redis.asyncio.RedisCluster.from_url(url, startup_nodes=nodes, **options))
    if settings.redis_mode == "sentinel":
        master, given = _master(url)
        sentinel = _untyped.asyncio.sentinel.Sentinel(settings.redis_addresses, sentinel_kwargs=_timeouts(settings))
        pool = {"connection_pool_class": _SentinelPool}
        return cast(AsyncRedis, sentinel.master_for(master, **pool, **given, **options, **_FAILOVER))
    # a crowd waits for a connection; redis-py's ordinary pool would call it a failure of Redis
    bounds = {"max_connections": settings.redis_connections, "timeout": settings.redis_timeout.total_seconds()}
    return AsyncRedis.from_pool(BlockingConnectionPool.from_url(url, **options, **_FAILOVER, **bounds))


class _SentinelPool(SentinelConnectionPool):
    """The library's own leaves the connections to the Sentinels open."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.aclose()


_untyped: Any = redis  # these parts of the library carry no types
# a demoted master answers READONLY for ever: the connection is given up, so that the next one finds the new master
_FAILOVER: dict[str, Any] = {"retry_on_error": [ReadOnlyError]}


def _master(url: str) -> tuple[str, dict[str, Any]]:
    """(name of the master, what else the URL says): with Sentinels, the URL's host is a name that they know."""
    given: dict[str, Any] = dict(_untyped.connection.parse_url(url))
    given["ssl"] = given.pop("connection_class", None) is not None
    given.pop("port", None)
    return str(given.pop("host", "")), given


def _timeouts(settings: CoreSettings) -> dict[str, Any]:
    timeout = settings.redis_timeout.total_seconds()
    return {"socket_timeout": timeout, "socket_connect_timeout": timeout}


def _options(settings: CoreSettings) -> dict[str, Any]:
    return {"decode_responses": True, "health_check_interval": 15, **_timeouts(settings)}


@contextmanager
def redis_faults(doing: str) -> Iterator[None]:
    """Turn Redis's passing faults into RedisUnavailable; let everything else through."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OutOfMemoryError, ClusterDownError) as error:
        raise RedisUnavailable(f"Redis failed while {doing}: {type(error).__name__}; trying again later") from error
    except RedisClusterException as error:
        if not isinstance(error, SlotNotCoveredError) and not str(error).startswith(_NO_NODE):
            raise
        raise RedisUnavailable(f"no node of the Redis Cluster answers while {doing}; trying again later") from error
    except NoScriptError as error:
        raise RedisUnavailable(f"Redis forgot a script while {doing}; it is taught again") from error
    except ResponseError as error:
        if str(error).startswith(_RETRYABLE_REPLIES):
            raise RedisUnavailable(f"Redis is not ready while {doing}: {str(error).split()[0]}") from error
        raise


@asynccontextmanager
async def async_redis_faults(doing: str) -> AsyncIterator[None]:
    """As redis_faults, around awaits."""
    with redis_faults(doing):
        yield
