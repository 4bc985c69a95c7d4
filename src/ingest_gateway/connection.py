"""The gateway's side of a connection: HTTP/1.1, as much of it as Firehose needs, over httptools' parser.

uvicorn listens, stops and keeps the TLS. Its own protocol speaks ASGI, whose scopes, events and messages take this
service longer than all its parsing; docs/adr/0014 has the figures.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

import httptools

from audience_core.observability import metrics
from ingest_gateway import answers
from ingest_gateway.answers import Answer
from ingest_gateway.body import Body, Headers, Refused, header
from ingest_gateway.bounds import Bound

FIREHOSE = b"/firehose"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


@dataclass(slots=True)
class Request:
    """A request whose body is complete, or that is to be answered by `problem`."""

    method: bytes
    path: bytes
    headers: Headers
    keep_alive: bool = True
    body: Body | None = None
    """None when nobody wants it"""
    problem: Answer | None = None


Handler = Callable[[Request], Awaitable[Answer]]


@dataclass
class Limits:
    """What a connection may take: bytes of an unpacked body, connections, and seconds."""

    body: int
    connections: int
    header_timeout: float
    """from the first byte of a request, or the connection's beginning, to the end of its headers"""
    request_timeout: float
    """from there to the end of its body"""
    idle_timeout: float = 5.0
    headers: "Bound[Connection]" = field(init=False)
    bodies: "Bound[Connection]" = field(init=False)
    idle: "Bound[Connection]" = field(init=False)

    def __post_init__(self) -> None:
        self.headers = Bound(self.header_timeout, Connection.close)
        self.bodies = Bound(self.request_timeout, Connection.too_slow)
        self.idle = Bound(self.idle_timeout, Connection.close)


class Connection(asyncio.Protocol):
    """One connection. Requests that come before the one at hand is answered wait, and nothing more is read."""

    def __init__(self, limits: Limits, config: Any, server_state: Any, **_: Any) -> None:
        """`config` and `server_state` are uvicorn's: the handler, and what it has to know of to stop gracefully."""
        self._limits = limits
        self._handler: Handler = config.app
        self._state = server_state
        self._parser: Any = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._transport = cast(asyncio.Transport, None)
        self._url = b""
        self._headers: Headers = []
        self._began = False
        """whether a request has begun whose headers are not complete"""
        self._incoming: Request | None = None
        self._waiting: deque[Request] = deque()
        self._busy = False
        self._held = False
        """whether nothing is read for now"""
        self._stopping = False
        self._bound: Bound[Connection] | None = None
        """the one that ends this connection, or the request, when nothing comes"""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it, and turn it away when there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        self._state.connections.add(self)
        if len(self._state.connections) > self._limits.connections:
            metrics.GATEWAY_UNAVAILABLE.labels("connections").inc()
            self._turn_away(answers.NO_CONNECTION)
            return
        self._wait(self._limits.headers)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget it. What is at hand goes on: its records may be with Kafka."""
        self._state.connections.discard(self)
        self._wait(None)
        self._waiting.clear()
        self._parser = None  # it holds this connection, and only the collector would part them

    def data_received(self, data: bytes) -> None:
        """Parse; the `on_` methods are called meanwhile."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._stopping = True  # nobody here speaks another protocol: answered as what it is, and no more is read
        except httptools.HttpParserError:
            self._turn_away(answers.NO_HTTP)
            return
        if not self._busy:
            self._wait(self._limits.bodies if self._incoming else self._limits.headers)

    def pause_writing(self) -> None:
        """Who does not read answers may not ask."""
        self._hold()

    def resume_writing(self) -> None:
        """As pause_writing."""
        if not self._waiting:
            self._read_on()

    def shutdown(self) -> None:
        """uvicorn stops: close once what is at hand is answered."""
        self._stopping = True
        if not self._busy and self._incoming is None:
            self.close()

    def close(self) -> None:
        """Close when all is written."""
        self._transport.close()

    def too_slow(self) -> None:
        """The body did not come in time."""
        if self._incoming is not None:
            self._incoming.problem = answers.TOO_SLOW
            self._received()

    def on_message_begin(self) -> None:
        self._began = True
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser, headers = self._parser, self._headers
        path = self._url if self._url == FIREHOSE else httptools.parse_url(self._url).path
        request = Request(parser.get_method(), path or b"", headers, parser.should_keep_alive())
        self._began, self._incoming = False, request
        if path != FIREHOSE:
            return
        try:
            request.body = Body(request.method, headers, self._limits.body)
        except Refused as refused:
            request.problem = refused.answer
            self._received()
            return
        if header(headers, b"expect").lower() == "100-continue":
            self._transport.write(_CONTINUE)

    def on_body(self, chunk: bytes) -> None:
        request = self._incoming
        if request is None or request.body is None:
            return
        try:
            request.body.add(chunk)
        except Refused as refused:
            request.problem = refused.answer
            self._received()

    def on_message_complete(self) -> None:
        if self._incoming is not None:
            self._received()

    def _received(self) -> None:
        """The incoming request can be answered."""
        request, self._incoming = cast(Request, self._incoming), None
        if self._busy:
            self._waiting.append(request)
            self._hold()
            return
        self._busy = True
        self._wait(None)
        task = asyncio.get_running_loop().create_task(self._answer(request))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    async def _answer(self, request: Request) -> None:
        answered = False
        try:
            self._write(request, await self._handler(request))
            while self._waiting and not self._transport.is_closing():
                request = self._waiting.popleft()
                self._write(request, await self._handler(request))
            answered = True
        finally:
            self._busy = False
            if not answered:
                self.close()
        if not self._transport.is_closing():
            self._await_more()
            self._read_on()

    def _await_more(self) -> None:
        if self._incoming is not None:
            self._wait(self._limits.bodies)
        else:
            self._wait(self._limits.headers if self._began else self._limits.idle)

    def _hold(self) -> None:
        if not self._held and not self._transport.is_closing():
            self._transport.pause_reading()
            self._held = True

    def _read_on(self) -> None:
        if self._held and not self._transport.is_closing():
            self._transport.resume_reading()
            self._held = False

    def _write(self, request: Request, answer: Answer) -> None:
        if self._transport.is_closing():
            return
        close = answer.close or self._stopping or not request.keep_alive
        self._transport.write(_written(answer, self._state.default_headers, close, head=request.method == b"HEAD"))
        if close:
            self.close()

    def _turn_away(self, answer: Answer) -> None:
        self._transport.write(_written(answer, self._state.default_headers, True, head=False))
        self.close()

    def _wait(self, bound: "Bound[Connection] | None") -> None:
        if bound is not self._bound:
            if self._bound is not None:
                self._bound.end(self)
            if bound is not None:
                bound.begin(self)
            self._bound = bound


def _written(answer: Answer, more: Headers, close: bool, *, head: bool) -> bytes:
    lines = [_STATUS_LINES[answer.status], *[b"%b: %b\r\n" % line for line in more]]
    lines.append(b"content-type: %b\r\ncontent-length: %d\r\n" % (answer.content_type, len(answer.body)))
    if answer.retry_after:
        lines.append(b"retry-after: %d\r\n" % answer.retry_after)
    if close:
        lines.append(b"connection: close\r\n")
    lines += (b"\r\n",) if head else (b"\r\n", answer.body)
    return b"".join(lines)
