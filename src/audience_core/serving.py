"""How the HTTP services serve: TLS of their own, unless a proxy before them has it, and only while they may."""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any, NoReturn

import uvicorn

from audience_core.errors import SettingsError
from audience_core.settings import CoreSettings


def tls_options(settings: CoreSettings) -> dict[str, Any]:
    """uvicorn's options for TLS. Raises SettingsError when half of a certificate is named."""
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None:
        return {}
    if certificate is None or key is None:
        raise SettingsError("AUDIENCE_TLS_CERTIFICATE and AUDIENCE_TLS_KEY go together: set both, or neither")
    for variable, path in (("AUDIENCE_TLS_CERTIFICATE", certificate), ("AUDIENCE_TLS_KEY", key)):
        if not path.is_file():
            raise SettingsError(f"{variable} names {path}, which is no file")
    return {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}


async def serve_unless(server: uvicorn.Server, listener: socket.socket, watch: Coroutine[Any, Any, NoReturn]) -> None:
    """Serve until the server is told to stop, or until `watch` raises: that stops it too, and is raised at the end."""
    watching = asyncio.create_task(watch)

    def end(watched: "asyncio.Task[NoReturn]") -> None:
        server.should_exit = True
        if not watched.cancelled():
            watched.exception()  # looked at, or asyncio complains should the server raise something first

    watching.add_done_callback(end)
    try:
        await server.serve(sockets=[listener])
    finally:
        ended = watching.done()
        watching.cancel()
    if ended:  # another one is not waited for: now and then a cancellation gets lost
        await watching
