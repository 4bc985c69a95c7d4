"""uvicorn's protocol with a deadline for headers and a bound on connections; the server itself offers neither."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from audience_core.observability import metrics
from audience_core.whole_answers import WholeAnswersProtocol
from ingest_gateway.bounds import Bound

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Type: application/json\r\nContent-Length: 24\r\n"
    b"Connection: close\r\n\r\n" + b'{"error": "unavailable"}'
)


def protocol(header_timeout: float, max_connections: int) -> type[HttpToolsProtocol]:
    """Make a protocol class that closes a connection whose first or next header takes over `header_timeout` seconds,
    and answers 503 at once over `max_connections`."""

    headers: Bound[HttpToolsProtocol] = Bound(header_timeout, lambda late: late.transport.close())

    class DeadlineProtocol(WholeAnswersProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
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
