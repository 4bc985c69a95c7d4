"""uvicorn's protocol with a deadline for headers and a bound on connections; the server itself offers neither."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from audience_core.observability import metrics
from ingest_gateway.bounds import Bound

_HEAD = b"HTTP/1.1 200 "
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Type: application/json\r\nContent-Length: 24\r\n"
    b"Connection: close\r\n\r\n" + b'{"error": "unavailable"}'
)


class _WholeAnswers:
    """A transport that holds the head of an answer until its body comes: uvicorn writes them one by one, and each
    would be a call of the kernel, which a busy gateway feels."""

    __slots__ = ("_head", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD):
            self._head = data
            return
        self._transport.write(data)

    def close(self) -> None:
        if self._head:
            self.write(b"")
        self._transport.close()


def protocol(header_timeout: float, max_connections: int) -> type[HttpToolsProtocol]:
    """Make a protocol class that closes a connection whose first or next header takes over `header_timeout` seconds,
    and answers 503 at once over `max_connections`."""

    headers: Bound[HttpToolsProtocol] = Bound(header_timeout, lambda late: late.transport.close())

    class DeadlineProtocol(HttpToolsProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(cast(asyncio.Transport, _WholeAnswers(transport)))
            if len(self.connections) > max_connections:
                metrics.GATEWAY_UNAVAILABLE.labels("connections").inc()
                transport.write(_FULL)
                transport.close()
                return
            headers.begin(self)

        def on_message_begin(self) -> None:
            headers.begin(self)
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            headers.end(self)
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            headers.end(self)
            super().connection_lost(exc)

    return DeadlineProtocol
