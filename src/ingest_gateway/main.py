"""Wires the gateway and serves it until SIGTERM."""

import asyncio
import contextlib
import platform
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, cast

import structlog
import uvicorn
import uvloop

from audience_core.errors import RedisUnavailable, SettingsError, ShardRefused
from audience_core.garbage import spare_the_collector
from audience_core.kafka.producer import RecordProducer
from audience_core.observability.logging import configure, get_logger
from audience_core.observability.tracing import Tracing, open_tracing
from audience_core.redis.activity import ActivityStore
from audience_core.redis.catalog import AsyncCatalogStore
from audience_core.redis.connect import AsyncRedis, connect_async
from audience_core.redis.control import ControlStore
from audience_core.redis.erasures import ErasureStore
from audience_core.redis.shard_count import ShardCountWatch
from audience_core.registry import make_codec
from audience_core.serving import serve_unless, tls_options
from audience_core.settings import load
from ingest_gateway.activity import ActivityLog
from ingest_gateway.app import Gateway
from ingest_gateway.caches import CATALOG_EVERY_S, KEYS_EVERY_S, CatalogCache, KeyRing, refresh_forever
from ingest_gateway.connection import Connection, Limits
from ingest_gateway.erasure import Erasures
from ingest_gateway.outgoing import Records
from ingest_gateway.outlet import Outlet, open_outlet
from ingest_gateway.probing import Probes, probes_of
from ingest_gateway.processes import BACKLOG, REFUSED, Part, Processes, reserve
from ingest_gateway.published import PublishedSubscriptions, make_consumer
from ingest_gateway.publisher import TracedPublisher
from ingest_gateway.settings import GatewaySettings
from ingest_gateway.subscriptions import Subscriptions

log = get_logger()
KAFKA_EVERY_S = 2.0
LINGER_MS = 3
"""An answer may take 100 ms; records that wait this much for company cost a busy gateway a tenth less."""


def run() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    settings = load(GatewaySettings)
    configure(settings, "gateway")
    settings.required_pepper()
    tls = tls_options(settings)
    several = settings.gateway_processes > 1
    if several and platform.system() != "Linux":
        raise SettingsError("AUDIENCE_GATEWAY_PROCESSES is over 1, which needs Linux; start several gateways instead")
    stop = _Stop()
    try:
        listener = (reserve if several else _listen)(settings.host, settings.gateway_port)
    except OSError as error:
        log.error("port_taken", port=settings.gateway_port, setting="AUDIENCE_GATEWAY_PORT", error=str(error))
        return 1
    part: Part | None = None
    if several:
        outcome = Processes(listener, settings.gateway_processes).run()
        if isinstance(outcome, int):
            return outcome
        part, listener = outcome, outcome.listener
        structlog.contextvars.bind_contextvars(process=part.index)
    try:
        with listener:
            uvloop.run(_serve(settings, listener, tls, stop, part))
    except ShardRefused as error:
        log.error("gateway_stopped", error=type(error).__name__, reason=str(error))
        return 1 if part is None else REFUSED
    return 0


def _listen(host: str, port: int) -> socket.socket:
    return socket.create_server((host, port), backlog=BACKLOG)


class _Stop:
    """SIGTERM and SIGINT, from the start on: uvicorn hears them only while it serves, and then raises them again at
    whoever was there before it. A clean stop must exit with 0."""

    def __init__(self) -> None:
        self._asked = False
        self._take(self._note)

    def hand_over_to(self, server: uvicorn.Server) -> None:
        """It stops, at once if it was asked for already."""
        self._take(server.handle_exit)
        server.should_exit = self._asked

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked = True

    def _take(self, handler: Callable[[int, FrameType | None], None]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handler)


class _KafkaHealth:
    """Whether Kafka answered lately; asked beside the requests, never by one."""

    def __init__(self, producer: RecordProducer) -> None:
        self._producer = producer
        self.reachable = False

    async def watch(self) -> None:
        while True:
            self.reachable = await asyncio.to_thread(self._producer.reachable)
            await asyncio.sleep(KAFKA_EVERY_S if self.reachable else 0.1)


@dataclass
class _Wired:
    """The gateway, and what runs beside it."""

    gateway: Gateway
    keys: KeyRing
    catalogs: CatalogCache
    health: _KafkaHealth
    published: PublishedSubscriptions
    outlet: Outlet
    activity_log: ActivityLog
    probes: Probes

    def start(self) -> list["asyncio.Task[None]"]:
        """Begin what runs beside it; the caller ends the tasks."""
        return [
            asyncio.create_task(refresh_forever("keys", self.keys.refresh, KEYS_EVERY_S)),
            asyncio.create_task(refresh_forever("catalogs", self.catalogs.refresh, CATALOG_EVERY_S)),
            asyncio.create_task(self.health.watch()),
            asyncio.create_task(self.published.prepare()),
            asyncio.create_task(self.activity_log.flush_forever()),
            *self.outlet.start(),
            *self.probes.start(),
        ]


def _wire(
    settings: GatewaySettings, client: AsyncRedis, producer: RecordProducer, tracing: Tracing | None, part: Part | None
) -> _Wired:
    pepper = settings.required_pepper()
    control, catalog_store = ControlStore(client, pepper), AsyncCatalogStore(client)
    keys, catalogs, health = KeyRing(control, pepper), CatalogCache(catalog_store), _KafkaHealth(producer)
    codec = make_codec(settings)
    records = Records(codec, settings.shards)
    spools = settings.spool_dir is not None
    within = min(settings.ack_timeout, settings.spool_after) if spools else settings.ack_timeout
    published = PublishedSubscriptions(make_consumer(settings), codec, settings.shards, within.total_seconds())
    subscriptions = Subscriptions(catalog_store, catalogs, records, codec, published, spools=spools)
    outlet = open_outlet(settings, producer, subscriptions.renew)
    activity_log = ActivityLog(ActivityStore(client))
    probes = probes_of(part, lambda: outlet.ready(kafka_reachable=health.reachable))
    gateway = Gateway(
        settings,
        keys=keys,
        catalogs=catalogs,
        subscriptions=subscriptions,
        erasures=Erasures(control, ErasureStore(client, settings.shards), records, pepper),
        publisher=outlet.publisher if tracing is None else TracedPublisher(outlet.publisher, tracing),
        records=records,
        activity_log=activity_log,
        probes=probes,
        tracing=tracing,
    )
    return _Wired(gateway, keys, catalogs, health, published, outlet, activity_log, probes)


async def _serve(
    settings: GatewaySettings, listener: socket.socket, tls: dict[str, Any], stop: _Stop, part: Part | None
) -> None:
    async with contextlib.aclosing(connect_async(settings)) as client:
        watch = ShardCountWatch(client, settings.shards)
        await watch.ask()
        producer = RecordProducer(settings, "gateway", linger_ms=LINGER_MS)
        tracing = open_tracing(settings, "gateway")
        wired = _wire(settings, client, producer, tracing, part)
        server = _server(wired.gateway, settings, tls)  # first: what can't be read ends this before anything runs
        tasks = wired.start()
        stop.hand_over_to(server)
        if part is not None:
            part.serves()
        log.info("gateway_listening", port=listener.getsockname()[1])
        spare_the_collector()
        try:
            await serve_unless(server, listener, watch.forever())
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(RedisUnavailable):
                await wired.activity_log.flush(everything=True)
            left = await asyncio.to_thread(producer.close)
            if left:
                log.warning("records_left_unacknowledged", count=left)
            await wired.published.close()
            await wired.outlet.close()
            if tracing is not None:
                await asyncio.to_thread(tracing.close)


def _server(gateway: Gateway, settings: GatewaySettings, tls: dict[str, Any]) -> uvicorn.Server:
    limits = Limits(
        body=settings.body_limit,
        connections=settings.max_connections,
        header_timeout=settings.header_timeout.total_seconds(),
        request_timeout=settings.request_timeout.total_seconds(),
    )
    config = uvicorn.Config(
        gateway.answer,
        interface="asgi3",  # it is none: Connection calls it, and uvicorn is not to look
        http=cast(Any, partial(Connection, limits)),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
        **tls,
    )
    config.load()  # now, so that a certificate that can't be read is found before anybody is told that this serves
    return uvicorn.Server(config)
