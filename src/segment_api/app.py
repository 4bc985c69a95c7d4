"""The composition: a plain ASGI dispatcher with the SDKs' endpoint first, the control API and the console behind it."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from fastapi import APIRouter, Depends, FastAPI
from fastapi.security import HTTPBearer
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from audience_core.errors import RedisUnavailable
from audience_core.observability.logging import get_logger
from audience_core.observability.metrics import API_REQUESTS
from audience_core.observability.probes import Answer, metrics_answer, probe_answer
from audience_core.redis.activity import ActivityReader
from audience_core.redis.connect import AsyncRedis, async_redis_faults
from audience_core.redis.control import ControlStore
from audience_core.redis.erasures import ErasureStore
from audience_core.redis.multiplexed import make_reader
from audience_core.registry import make_codec
from segment_api.accounts import AccountCache
from segment_api.admin_tokens import AdminTokens
from segment_api.asgi import JSON_TYPE, AsgiApp, Event, Receive, Scope, Send, answer, error_body, header_of
from segment_api.body_limit import BodyLimit
from segment_api.console.app import create_console, is_console_path
from segment_api.console.changes import Changes
from segment_api.console.services import Replay, Services
from segment_api.console.sessions import SessionStore
from segment_api.control import control_router
from segment_api.erasures import erasures_router
from segment_api.errors import add_error_handlers
from segment_api.health import HealthReader
from segment_api.listing import ListingReader, listing_router
from segment_api.saved_segments import SegmentStore
from segment_api.segment_routes import SegmentReader, segments_router
from segment_api.segments import REDIS_BOUND_S, SegmentsEndpoint, is_segments_path
from segment_api.served import SegmentMatcher, ServedCache
from segment_api.settings import ApiSettings
from segment_api.sizes import SizeEstimator
from segment_api.visitors import Eraser, RecordSender, VisitorReader, visitors_router

log = get_logger()


def create_app(
    settings: ApiSettings,
    *,
    client: AsyncRedis,
    sender: RecordSender,
    routers: Iterable[APIRouter] = (),
    replay: Replay | None = None,
) -> "SegmentApi":
    """Wire the whole service. `routers` are further routes; those below `/v1` ask for the admin token too.

    `replay` puts dead letters back on behalf of the console.
    """
    accounts, tokens = AccountCache(client), AdminTokens(settings.required_admin_tokens())
    services = _services(settings, client, sender, accounts, tokens, replay)
    reads = make_reader(settings, client, REDIS_BOUND_S)
    segments = SegmentsEndpoint(reads, accounts, ServedCache(client, accounts), settings.shards)
    console = ProxyHeadersMiddleware(cast(Any, create_console(services)), trusted_hosts=settings.trusted_proxies)
    control = _control_api(settings, services, routers)
    closing = services.changes.close, reads.close
    return SegmentApi(segments, control, cast(AsgiApp, console), client, tokens, *closing)


def _services(
    settings: ApiSettings,
    client: AsyncRedis,
    sender: RecordSender,
    accounts: AccountCache,
    tokens: AdminTokens,
    replay: Replay | None,
) -> Services:
    """What both the control API and the console speak to."""
    activity, erasures = ActivityReader(client), ErasureStore(client, settings.shards)
    saved, sizes = SegmentStore(client), SizeEstimator(client, accounts)
    matcher = SegmentMatcher(client, accounts, settings.shards)
    return Services(
        sessions=SessionStore(client, settings.required_pepper(), tokens),
        store=ControlStore(client, settings.required_pepper(), settings.key_grace),
        listing=ListingReader(client),
        visitors=VisitorReader(client, settings.shards),
        eraser=Eraser(sender, make_codec(settings), settings.shards, erasures),
        erasures=erasures,
        saved=saved,
        segments=SegmentReader(saved, accounts, sizes, matcher),
        matcher=matcher,
        sizes=sizes,
        accounts=accounts,
        activity=activity,
        health=HealthReader(activity, settings.silence_after),
        changes=Changes(client),
        gateway_url=settings.gateway_url,
        replay=replay,
    )


def _control_api(settings: ApiSettings, services: Services, routers: Iterable[APIRouter]) -> FastAPI:
    app = FastAPI(title="Audience stream: segment API", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(BodyLimit, limit=settings.control_body_limit)
    bearer = [Depends(HTTPBearer(auto_error=False, description="the admin token"))]  # declares; SegmentApi enforces
    store = services.store
    for router in (
        control_router(store, services.health),
        listing_router(store, services.listing),
        erasures_router(store, services.erasures),
        visitors_router(store, services.visitors, services.eraser),
        segments_router(store, services.saved, services.segments, services.sizes),
    ):
        app.include_router(router, dependencies=bearer)
    for router in routers:
        app.include_router(router)
    add_error_handlers(app)
    return app


class SegmentApi:
    """Dispatches by path: segments, probes, and everything else to the control API."""

    def __init__(
        self,
        segments: SegmentsEndpoint,
        control: AsgiApp,
        console: AsgiApp,
        client: AsyncRedis,
        tokens: AdminTokens,
        end_streams: Callable[[], None],
        close: Callable[[], None],
    ) -> None:
        self._segments = segments
        self.read_segments = segments.read
        """Answers a read of segments without ASGI: see direct.py."""
        self._control = control
        self._console = console
        self._client: Any = client
        self.end_streams = end_streams
        """Ends the open streams, so that the server can stop."""
        self.close = close
        """Closes the connections that were made here, when the server has answered its last request."""
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        if is_segments_path(path):
            await self._segments(scope, receive, send)
        elif path == "/livez":
            await _send_probe(scope, send, probe_answer([]))
        elif path == "/readyz":
            await _send_probe(scope, send, probe_answer(await self._missing()))
        elif path == "/metrics":
            await _send_probe(scope, send, metrics_answer())
        else:
            await self._controlled(scope, receive, send)

    async def _missing(self) -> list[str]:
        try:
            async with asyncio.timeout(REDIS_BOUND_S), async_redis_faults("answering a probe"):
                await self._client.ping()
        except (RedisUnavailable, TimeoutError):
            return ["redis does not answer"]
        return []

    async def _controlled(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        status = 0

        async def watched(event: Event) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
            await send(event)

        try:
            # before anything of the request is parsed, and for paths that do not exist too
            if _needs_token(scope["path"]) and not self._is_admin(scope):
                await _refuse(scope, watched)
            elif is_console_path(scope["path"]):
                await self._console(scope, receive, watched)
            else:
                await self._control(scope, receive, watched)
        except Exception:
            # FastAPI has answered 500 already; it raises so that the server may log
            log.exception("control_request_failed", route=_route(scope))
        finally:
            route = _route(scope)
            API_REQUESTS.add(1, route, str(status))
            elapsed = round((time.perf_counter() - started) * 1000, 1)
            log.info("control_request", method=_method(scope), route=route, status=status, duration_ms=elapsed)

    def _is_admin(self, scope: Scope) -> bool:
        scheme, _, given = header_of(scope, b"authorization").partition(b" ")
        return scheme == b"Bearer" and self._tokens.match(given) is not None


def _needs_token(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


def _route(scope: Scope) -> str:
    """Template of the route: paths hold MPIDs, and are as many as there are callers' mistakes."""
    return str(getattr(scope.get("route"), "path", "none"))


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "-"


async def _refuse(scope: Scope, send: Send) -> None:
    message = "the admin token is absent or wrong; send `Authorization: Bearer <AUDIENCE_ADMIN_TOKEN>`"
    await answer(scope, send, 401, error_body("unauthorized", message), [JSON_TYPE, (b"www-authenticate", b"Bearer")])


async def _send_probe(scope: Scope, send: Send, given: Answer) -> None:
    await answer(scope, send, given.status, given.body, [(b"content-type", given.content_type.encode())])
