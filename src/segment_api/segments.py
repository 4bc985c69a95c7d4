"""`GET /accounts/{account}/segments/{visitor_id}`, as SDKs call it: one round trip to Redis, no framework (ADR 16)."""

import asyncio
import time

from pydantic_core import to_json

from audience_core.domain.partitioning import is_account, is_mpid, shard_of, visitor_key
from audience_core.errors import RedisUnavailable
from audience_core.http_answer import Header
from audience_core.observability.logging import get_logger
from audience_core.observability.metrics import API_LATENCY, API_REQUESTS
from audience_core.redis import keys
from audience_core.redis.multiplexed import Command, Reader
from segment_api.accounts import AccountCache
from segment_api.asgi import JSON_TYPE, RETRY_AFTER, Headers, Receive, Scope, Send, answer
from segment_api.rows import build_rows
from segment_api.served import NONE_SERVED, ServedCache

PREFIX = "/accounts/"
SEPARATOR = "/segments/"
REDIS_BOUND_S = 0.5
"""The most impatient client waits for 1 s in all."""

_CORS: Header = (b"access-control-allow-origin", b"*")
_ALLOW: Header = (b"allow", b"GET, HEAD, OPTIONS")
_FOUND: Headers = (JSON_TYPE, _CORS, (b"cache-control", b"no-store"))
_FAILED: Headers = (*_FOUND, RETRY_AFTER)
_NOT_ALLOWED: Headers = (*_FOUND, _ALLOW)
_PREFLIGHT: Headers = (
    _CORS,
    _ALLOW,
    (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
    (b"access-control-allow-headers", b"*"),
    (b"access-control-max-age", b"86400"),
)
_NOTHING = b"[]"

SegmentsAnswer = tuple[int, Headers, bytes]
"""status, headers but for the length, body"""

log = get_logger()


def is_segments_path(path: str) -> bool:
    """Whether a decoded path is this endpoint's. The account has no slash; the visitor id may have any."""
    if not path.startswith(PREFIX):
        return False
    account, separator, _ = path[len(PREFIX) :].partition(SEPARATOR)
    return bool(separator) and "/" not in account


class SegmentsEndpoint:
    """Answers one visitor's segments, `[]` whenever there is nothing to tell."""

    def __init__(self, reader: Reader, accounts: AccountCache, served: ServedCache, shards: int) -> None:
        self._reader = reader
        self._accounts = accounts
        self._served = served
        self._shards = shards
        self._away = False

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Speak ASGI."""
        method = scope["method"]
        if method in {"GET", "HEAD"}:
            status, headers, body = await self.read(scope["path"])
        else:
            status, headers, body = (204, _PREFLIGHT, b"") if method == "OPTIONS" else (405, _NOT_ALLOWED, _NOTHING)
            API_REQUESTS.add(1, "segments", str(status))
        await answer(scope, send, status, body, headers)

    async def read(self, path: str) -> SegmentsAnswer:
        """Answer a GET of this decoded path, which is one of this endpoint's. Never raises."""
        started = time.perf_counter()
        status, body = await self._answer(path)
        API_LATENCY.observe(time.perf_counter() - started)
        API_REQUESTS.add(1, "segments", str(status))
        return status, _FOUND if status == 200 else _FAILED, body  # noqa: PLR2004

    async def _answer(self, path: str) -> tuple[int, bytes]:
        account, _, visitor_id = path[len(PREFIX) :].partition(SEPARATOR)
        if not is_account(account) or not is_mpid(visitor_id):
            return 200, _NOTHING
        try:
            body = await self._rows(account, visitor_id)
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
        of_visitor = keys.of_visitor(shard_of(visitor_key(account, visitor_id), self._shards), account, visitor_id)
        asked: list[Command] = [
            ("SMEMBERS", of_visitor.members),
            ("HGETALL", of_visitor.guards),
            ("HGET", keys.CATALOG_VERSIONS, account),
        ]
        if self._served.may_serve(account):
            asked.append(("EXISTS", of_visitor.suppression))
        until = time.monotonic() + REDIS_BOUND_S
        members, found, version, *erased = await self._reader.ask(*asked)
        guards = dict(zip(found[::2], found[1::2], strict=True))
        # without a version there is no audience that a segment could name
        served = NONE_SERVED if version is None else self._served.current(account, version)
        if served is None:  # it is nearly always in memory, and so is the view below
            async with asyncio.timeout(until - time.monotonic()):
                served = await self._served.of(account, version)
        # somebody unknown can match a NOT, somebody erased can't
        if not members and not guards and (not served.segments or erased != [0]):
            return _NOTHING
        view = self._accounts.current(account, version)
        if view is None:
            async with asyncio.timeout(until - time.monotonic()):
                view = await self._accounts.view(account, version)
        now_ms = time.time_ns() // 1_000_000
        saved = served.values if served.segments else None
        rows = build_rows(visitor_id, members, guards, view.catalog, partner=view.partner, now_ms=now_ms, saved=saved)
        return to_json(rows)
