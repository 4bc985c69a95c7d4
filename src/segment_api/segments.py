"""`GET /accounts/{account}/segments/{visitor_id}`, as the SDKs call it: plain ASGI, one round trip to Redis."""

import asyncio
import json
import time
from collections.abc import Coroutine
from typing import Any

from audience_core.domain.partitioning import is_account, is_mpid, shard_of, visitor_key
from audience_core.errors import RedisUnavailable
from audience_core.observability.logging import get_logger
from audience_core.observability.metrics import API_LATENCY, API_REQUESTS
from audience_core.redis import keys
from audience_core.redis.connect import AsyncRedis, async_redis_faults
from segment_api.accounts import AccountCache
from segment_api.asgi import JSON_TYPE, RETRY_AFTER, Header, Receive, Scope, Send, answer
from segment_api.rows import build_rows
from segment_api.served import NONE_SERVED, ServedCache

PREFIX = "/accounts/"
SEPARATOR = "/segments/"
REDIS_BOUND_S = 0.5
"""The most impatient client waits for 1 s in all."""

MAX_READS = 64
"""Reads at a time: more would exhaust the client's pool of 100 connections, and that counts as Redis being away."""

_CORS: Header = (b"access-control-allow-origin", b"*")
_HEADERS: list[Header] = [JSON_TYPE, _CORS, (b"cache-control", b"no-store")]
_ALLOW: Header = (b"allow", b"GET, HEAD, OPTIONS")
_PREFLIGHT: list[Header] = [
    _CORS,
    _ALLOW,
    (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
    (b"access-control-allow-headers", b"*"),
    (b"access-control-max-age", b"86400"),
]
_NOTHING = b"[]"

log = get_logger()


def is_segments_path(path: str) -> bool:
    """Whether a decoded path is this endpoint's. The account has no slash; the visitor id may have any."""
    if not path.startswith(PREFIX):
        return False
    account, separator, _ = path[len(PREFIX) :].partition(SEPARATOR)
    return bool(separator) and "/" not in account


class SegmentsEndpoint:
    """Answers one visitor's segments, `[]` whenever there is nothing to tell."""

    def __init__(self, client: AsyncRedis, accounts: AccountCache, served: ServedCache, shards: int) -> None:
        self._client: Any = client
        self._accounts = accounts
        self._served = served
        self._shards = shards
        self._reads = asyncio.Semaphore(MAX_READS)
        self._away = False

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Speak ASGI."""
        started = time.perf_counter()
        method = scope["method"]
        if method == "OPTIONS":
            status, body, headers = 204, b"", _PREFLIGHT
        elif method not in {"GET", "HEAD"}:
            status, body, headers = 405, _NOTHING, [*_HEADERS, _ALLOW]
        else:
            status, body = await self._answer(scope["path"])
            headers = _HEADERS if status == 200 else [*_HEADERS, RETRY_AFTER]  # noqa: PLR2004
            API_LATENCY.observe(time.perf_counter() - started)
        API_REQUESTS.labels("segments", str(status)).inc()
        await answer(scope, send, status, body, headers)

    async def _answer(self, path: str) -> tuple[int, bytes]:
        account, _, visitor_id = path[len(PREFIX) :].partition(SEPARATOR)
        if not is_account(account) or not is_mpid(visitor_id):
            return 200, _NOTHING
        try:
            body = await _bounded(self._rows(account, visitor_id))
        except (RedisUnavailable, TimeoutError) as error:
            if not self._away:  # once, not for every request of an outage
                log.warning("redis_away", error=str(error) or "no answer in time")
            self._away = True
            return 503, _NOTHING
        except Exception:
            log.exception("segments_failed")
            return 500, _NOTHING
        self._away = False
        return 200, body

    async def _rows(self, account: str, visitor_id: str) -> bytes:
        shard = shard_of(visitor_key(account, visitor_id), self._shards)
        async with self._reads, async_redis_faults("reading a visitor's segments"):
            pipe = self._client.pipeline(transaction=False)
            pipe.smembers(keys.members(shard, account, visitor_id))
            pipe.hgetall(keys.guards(shard, account, visitor_id))
            pipe.hget(keys.CATALOG_VERSIONS, account)
            if self._served.may_serve(account):
                pipe.exists(keys.suppression(shard, account, visitor_id))
            # a cancelled execute closes its connection (redis-py), so no late reply meets another request
            members, guards, version, *erased = await pipe.execute()
        # without a version there is no audience that a segment could name
        served = NONE_SERVED if version is None else await self._served.of(account, version)
        # somebody unknown can match a NOT, somebody erased can't
        if not members and not guards and (not served.segments or erased != [0]):
            return _NOTHING
        view = await self._accounts.view(account, version)
        now_ms = time.time_ns() // 1_000_000
        saved = served.values if served.segments else None
        rows = build_rows(visitor_id, members, guards, view.catalog, partner=view.partner, now_ms=now_ms, saved=saved)
        return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()


async def _bounded(reading: Coroutine[Any, Any, bytes]) -> bytes:
    """Wait for REDIS_BOUND_S and not longer; raise TimeoutError.

    Not asyncio.timeout: in the crowd of an outage redis-py now and then loses a cancellation, and its caller then waits
    for the socket's time-out too. The reading left behind ends by that one.
    """
    task = asyncio.create_task(reading)
    try:
        done, _ = await asyncio.wait({task}, timeout=REDIS_BOUND_S)
    finally:
        task.cancel()  # does nothing to a finished one
    if not done:
        task.add_done_callback(lambda left: left.cancelled() or left.exception())  # nobody else looks at it
        raise TimeoutError
    return task.result()
