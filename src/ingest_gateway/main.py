"""Wires the gateway and serves it until SIGTERM."""

import asyncio
import contextlib
import signal
import socket
from functools import partial
from typing import Any, cast

import uvicorn
import uvloop

from audience_core.errors import RedisUnavailable
from audience_core.garbage import spare_the_collector
from audience_core.kafka.producer import RecordProducer
from audience_core.observability.logging import configure, get_logger
from audience_core.observability.tracing import open_tracing
from audience_core.redis.activity import ActivityStore
from audience_core.redis.catalog import AsyncCatalogStore
from audience_core.redis.connect import connect_async
from audience_core.redis.control import ControlStore
from audience_core.redis.erasures import ErasureStore
from audience_core.registry import make_codec
from audience_core.serving import tls_options
from audience_core.settings import load
from ingest_gateway.activity import ActivityLog
from ingest_gateway.app import Gateway
from ingest_gateway.caches import CATALOG_EVERY_S, KEYS_EVERY_S, CatalogCache, KeyRing, refresh_forever
from ingest_gateway.connection import Connection, Limits
from ingest_gateway.erasure import Erasures
from ingest_gateway.outgoing import Records
from ingest_gateway.outlet import open_outlet
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
    # uvicorn stops on these and then raises them again at whoever was there before it: a clean stop must exit with 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        listener = socket.create_server((settings.host, settings.gateway_port), backlog=2048)
    except OSError as error:
        log.error("port_taken", port=settings.gateway_port, setting="AUDIENCE_GATEWAY_PORT", error=str(error))
        return 1
    with listener:
        uvloop.run(_serve(settings, listener, tls))
    return 0


class _KafkaHealth:
    """Whether Kafka answered lately; asked beside the requests, never by one."""

    def __init__(self, producer: RecordProducer) -> None:
        self._producer = producer
        self.reachable = False

    async def watch(self) -> None:
        while True:
            self.reachable = await asyncio.to_thread(self._producer.reachable)
            await asyncio.sleep(KAFKA_EVERY_S if self.reachable else 0.1)


async def _serve(settings: GatewaySettings, listener: socket.socket, tls: dict[str, Any]) -> None:
    pepper = settings.required_pepper()
    client = connect_async(settings)
    producer = RecordProducer(settings, "gateway", linger_ms=LINGER_MS)
    control, catalog_store = ControlStore(client, pepper), AsyncCatalogStore(client)
    keys, catalogs, health = KeyRing(control, pepper), CatalogCache(catalog_store), _KafkaHealth(producer)
    codec = make_codec(settings)
    records = Records(codec, settings.shards)
    subscriptions = Subscriptions(catalog_store, catalogs, records, codec)
    outlet = open_outlet(settings, producer, subscriptions.renew)
    tracing = open_tracing(settings, "gateway")
    activity_log = ActivityLog(ActivityStore(client))
    gateway = Gateway(
        settings,
        keys=keys,
        catalogs=catalogs,
        subscriptions=subscriptions,
        erasures=Erasures(control, ErasureStore(client, settings.shards), records, pepper),
        publisher=outlet.publisher if tracing is None else TracedPublisher(outlet.publisher, tracing),
        records=records,
        activity_log=activity_log,
        ready=lambda: outlet.ready(kafka_reachable=health.reachable),
        tracing=tracing,
    )
    tasks = [
        asyncio.create_task(refresh_forever("keys", keys.refresh, KEYS_EVERY_S)),
        asyncio.create_task(refresh_forever("catalogs", catalogs.refresh, CATALOG_EVERY_S)),
        asyncio.create_task(health.watch()),
        asyncio.create_task(activity_log.flush_forever()),
        *outlet.start(),
    ]
    log.info("gateway_listening", port=listener.getsockname()[1])
    spare_the_collector()
    try:
        await _server(gateway, settings, tls).serve(sockets=[listener])
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(RedisUnavailable):
            await activity_log.flush(everything=True)
        left = await asyncio.to_thread(producer.close)
        if left:
            log.warning("records_left_unacknowledged", count=left)
        await outlet.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)
        await client.aclose()


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
    return uvicorn.Server(config)
