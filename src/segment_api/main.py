"""Wires the segment API and serves it until SIGTERM."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
import uvloop

from audience_core.kafka.producer import RecordProducer
from audience_core.observability.logging import configure, get_logger
from audience_core.redis.connect import connect_async
from audience_core.serving import network_options
from audience_core.settings import load
from segment_api.app import create_app
from segment_api.settings import ApiSettings

log = get_logger()


def run() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Raises SettingsError when a setting is missing or wrong."""
    settings = load(ApiSettings)
    configure(settings, "api")
    settings.required_pepper()
    settings.required_admin_token()
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
    with listener:
        uvloop.run(_serve(settings, listener))
    return 0


class _Server(uvicorn.Server):
    """Uvicorn, but a signal ends it with the exit code 0: its own handler raises the signal once more at the end."""

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


async def _serve(settings: ApiSettings, listener: socket.socket) -> None:
    client = connect_async(settings)
    producer = RecordProducer(settings, "api")
    app = create_app(settings, client=client, sender=producer)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=5,
        **network,
    )
    log.info("api_listening", port=listener.getsockname()[1])
    try:
        await _Server(config).serve(sockets=[listener])
    finally:
        left = await asyncio.to_thread(producer.close)
        if left:
            log.warning("records_left_unacknowledged", count=left)
        await client.aclose()
