"""Wires the segment API and serves it until SIGTERM."""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import uvicorn
import uvloop

from audience_core.errors import ShardRefused
from audience_core.garbage import spare_the_collector
from audience_core.kafka.producer import RecordProducer
from audience_core.observability.logging import configure, get_logger
from audience_core.redis.connect import connect_async
from audience_core.redis.shard_count import ShardCountWatch
from audience_core.serving import serve_unless, tls_options
from audience_core.settings import load
from segment_api.app import create_app
from segment_api.console.services import Replay
from segment_api.direct import DirectProtocol
from segment_api.settings import ApiSettings

log = get_logger()


def run(replay: Replay | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Raises SettingsError when a setting is missing or wrong.

    `replay` puts dead letters back: that takes the gateway's reading of profiles, so whoever knows both passes it in.
    """
    settings = load(ApiSettings)
    configure(settings, "api")
    settings.required_pepper()
    settings.required_admin_tokens()
    tls = tls_options(settings)
    try:
        listener = socket.create_server((settings.host, settings.api_port), backlog=2048)
    except OSError as error:
        log.error(
            "port_taken",
            port=settings.api_port,
            setting="AUDIENCE_API_PORT",
            error=str(error),
            to_do="stop what listens there, or set another port",
        )
        return 1
    try:
        with listener:
            uvloop.run(_serve(settings, listener, tls, replay))
    except ShardRefused as error:
        log.error("api_stopped", error=type(error).__name__, reason=str(error))
        return 1
    return 0


class _Server(uvicorn.Server):
    """Uvicorn, but a signal ends it with the exit code 0: its own handler raises the signal once more at the end."""

    def __init__(
        self, config: uvicorn.Config, before_start: Callable[[], Awaitable[None]], before_stop: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._before_start = before_start
        self._before_stop = before_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._before_start()  # here, where a signal is heard already
        if self.should_exit:
            return
        await super().startup(sockets)
        for listener in sockets or ():
            log.info("api_listening", port=listener.getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._before_stop()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


async def _serve(settings: ApiSettings, listener: socket.socket, tls: dict[str, Any], replay: Replay | None) -> None:
    client = connect_async(settings)
    watch = ShardCountWatch(client, settings.shards)
    producer = RecordProducer(settings, "api")
    app = create_app(settings, client=client, sender=producer, replay=replay)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=cast(Any, partial(DirectProtocol, app.read_segments)),
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=5,
        proxy_headers=False,  # the console alone asks who the client is: see create_app
        **tls,
    )
    spare_the_collector()
    try:
        await serve_unless(_Server(config, watch.ask, app.end_streams), listener, watch.forever())
    finally:
        left = await asyncio.to_thread(producer.close)
        if left:
            log.warning("records_left_unacknowledged", count=left)
        app.close()
        await client.aclose()
