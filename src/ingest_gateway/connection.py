"""The gateway's side of a connection: reads requests, has them answered, one at a time, and keeps to its limits.

uvicorn listens, stops and keeps the TLS. Its own protocol speaks ASGI, whose scopes, events and messages take this
service longer than all its parsing; docs/adr/0014 has the figures.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from audience_core.http_answer import header_lines, whole_answer
from audience_core.observability import metrics
from audience_core.observability.logging import get_logger
from ingest_gateway import answers
from ingest_gateway.answers import Answer
from ingest_gateway.bounds import Bound
from ingest_gateway.request_reader import Request, RequestReader

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

log = get_logger()
Handler = Callable[[Request], Awaitable[Answer]]


@dataclass
class Limits:
    """What a connection may take: bytes of a body, packed and unpacked, connections, and seconds."""

    body: int
    connections: int
    header_timeout: float
    """from the first byte of a request, or the connection's beginning, to the end of its headers"""
    request_timeout: float
    """from there to the end of its body"""
    idle_timeout: float = 5.0
    write_timeout: float = 5.0
    """for the other side to take what is written, and to close"""
    headers: "Bound[Connection]" = field(init=False)
    bodies: "Bound[Connection]" = field(init=False)
    idle: "Bound[Connection]" = field(init=False)
    writing: "Bound[Connection]" = field(init=False)

    def __post_init__(self) -> None:
        self.headers = Bound(self.header_timeout, Connection.close)
        self.bodies = Bound(self.request_timeout, Connection.too_slow)
        self.idle = Bound(self.idle_timeout, Connection.close)
        self.writing = Bound(self.write_timeout, Connection.abort)


class Connection(asyncio.Protocol):
    """One connection. Requests that come before the one at hand is answered wait, and nothing more is read."""

    def __init__(self, limits: Limits, config: Any, server_state: Any, **_: Any) -> None:
        """`config` and `server_state` are uvicorn's: the handler, and what it has to know of to stop gracefully."""
        self._limits = limits
        self._handler: Handler = config.app
        self._state = server_state
        self._reader = RequestReader(limits.body, self._received)
        self._transport = cast(asyncio.Transport, None)
        self._loop = cast(asyncio.AbstractEventLoop, None)
        self._waiting: deque[Request] = deque()
        self._busy = False
        self._task = cast("asyncio.Task[None]", None)
        """answers, while this connection is busy"""
        self._held = False
        """whether nothing is read for now"""
        self._room = asyncio.Event()
        """set while what is written is taken"""
        self._room.set()
        self._stopping = False
        self._bound: Bound[Connection] | None = None
        """the one that ends this connection, or the request, when nothing comes"""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it, or turn it away when there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        if len(self._state.connections) >= self._limits.connections:
            metrics.GATEWAY_UNAVAILABLE.labels("connections").inc()
            metrics.GATEWAY_REQUESTS.add(1, "none", str(answers.NO_CONNECTION.status))
            self._reader.close()
            self._write(Request(), answers.NO_CONNECTION)
            return
        self._state.connections.add(self)
        self._wait(self._limits.headers)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget it. What is at hand goes on: its records may be with Kafka."""
        self._state.connections.discard(self)
        self._limits.writing.end(self)
        self._wait(None)
        self._waiting.clear()
        self._reader.close()
        del self._reader  # it holds this connection, and only the collector would part the two
        self._room.set()

    def data_received(self, data: bytes) -> None:
        """Read; `_received` is called meanwhile."""
        self._reader.feed(data)
        if not self._busy and not self._transport.is_closing():
            self._await_more(self._limits.headers)

    def eof_received(self) -> bool:
        """Who has said all may still wait for an answer. Returns whether the connection stays."""
        self._stopping = True
        return self._busy

    def pause_writing(self) -> None:
        """Who does not read answers may not ask, and does not stay."""
        self._room.clear()
        self._hold()
        self._limits.writing.begin(self)

    def resume_writing(self) -> None:
        """As pause_writing."""
        self._limits.writing.end(self)
        self._room.set()
        self._read_on()

    def shutdown(self) -> None:
        """uvicorn stops: close once what is at hand is answered."""
        self._stopping = True
        if not self._busy and self._reader.incoming is None:
            self.close()

    def close(self) -> None:
        """Close when all is written."""
        self._transport.close()
        self._limits.writing.begin(self)

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def too_slow(self) -> None:
        """The body did not come in time."""
        self._reader.end(answers.TOO_SLOW)

    def _received(self, request: Request) -> None:
        if self._busy:
            self._waiting.append(request)
            self._hold()
            return
        self._busy = True
        self._wait(None)
        self._task = self._loop.create_task(self._answer(request))
        self._state.tasks.add(self._task)

    async def _answer(self, request: Request) -> None:
        """Answer this request and those that wait behind it."""
        try:
            while True:
                try:
                    answer = await self._handler(request)
                except Exception:
                    log.exception("request_failed")
                    answer = answers.INTERNAL
                self._write(request, answer)
                if not self._waiting:
                    break
                await asyncio.sleep(0)  # many answers wait for nothing: the other connections have their turn
                await self._room.wait()
                if self._transport.is_closing():
                    return
                request = self._waiting.popleft()
        except BaseException:
            self.close()
            raise
        finally:
            self._busy = False
            self._state.tasks.discard(self._task)
            del self._task  # it holds this connection, as above
        if not self._transport.is_closing():
            self._await_more(self._limits.headers if self._reader.began else self._limits.idle)
            self._read_on()

    def _await_more(self, otherwise: "Bound[Connection]") -> None:
        """Bound the wait for the body of the incoming request, or `otherwise`."""
        incoming = self._reader.incoming
        self._wait(otherwise if incoming is None else self._limits.bodies)
        if incoming is not None and incoming.expects:
            incoming.expects = False
            self._transport.write(_CONTINUE)

    def _hold(self) -> None:
        if not self._held and not self._transport.is_closing():
            self._transport.pause_reading()
            self._held = True

    def _read_on(self) -> None:
        if self._held and self._room.is_set() and not self._waiting and not self._transport.is_closing():
            self._transport.resume_reading()
            self._held = False

    def _write(self, request: Request, answer: Answer) -> None:
        if self._transport.is_closing():
            return
        close = answer.close or self._stopping or not request.keep_alive
        lines = header_lines(tuple(self._state.default_headers)) + b"content-type: %b\r\n" % answer.content_type
        if answer.retry_after:
            lines += b"retry-after: %d\r\n" % answer.retry_after
        head_only = request.method == b"HEAD"
        self._transport.write(whole_answer(answer.status, lines, answer.body, close=close, head_only=head_only))
        if close:
            self._part()

    def _part(self) -> None:
        """Close, but let who is still sending read the answer first: bytes that nobody has read would take it away."""
        if self._stopping or not self._transport.can_write_eof():
            self.close()
            return
        self._reader.close()
        self._stopping = True
        self._transport.write_eof()
        self._limits.writing.begin(self)

    def _wait(self, bound: "Bound[Connection] | None") -> None:
        if bound is not self._bound:
            if self._bound is not None:
                self._bound.end(self)
            if bound is not None:
                bound.begin(self)
            self._bound = bound
