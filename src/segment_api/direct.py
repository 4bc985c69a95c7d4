"""uvicorn's protocol, but reads of segments are answered without ASGI.

ASGI's scope, events and checks of every header take a read longer than all that this service does for it
(docs/performance.md). Everything else, and a read that comes before the one at hand is answered, goes uvicorn's way.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from audience_core.http_answer import header_lines, whole_answer
from segment_api.segments import PREFIX, SegmentsAnswer, is_segments_path

_PREFIX = PREFIX.encode()
_METHODS = {b"GET": False, b"HEAD": True}
"""method → whether it asks for the head alone"""
_NOBODY = asyncio.Event()
"""what waits for the body of a read"""

Read = Callable[[str], Awaitable[SegmentsAnswer]]
"""decoded path → the answer; it never raises"""


class DirectProtocol(HttpToolsProtocol):
    """To be given to uvicorn as `http`, with the function that answers a read bound to it."""

    def __init__(self, read: Read, **uvicorns: Any) -> None:
        """`uvicorns`: config, server_state, app_state."""
        super().__init__(**uvicorns)
        self._read = read

    def on_headers_complete(self) -> None:
        """Answer a read at once."""
        path = self._path_of_read()
        if path is None:
            super().on_headers_complete()
            return
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        cycle = _Cycle(self, path, _METHODS[self.parser.get_method()], keep_alive)
        self.cycle = cycle  # type: ignore[assignment]
        cycle.task = self.loop.create_task(cycle.run(self._read))
        self.tasks.add(cycle.task)

    def on_body(self, body: bytes) -> None:
        """Nobody wants the body of a read."""
        if not isinstance(self.cycle, _Cycle):
            super().on_body(body)

    def _path_of_read(self) -> str | None:
        if (
            not self.url.startswith(_PREFIX)
            or self.parser.get_method() not in _METHODS
            or self.parser.should_upgrade()
            or self.expect_100_continue
            or (self.cycle is not None and not self.cycle.response_complete)
        ):
            return None
        path = httptools.parse_url(self.url).path.decode("ascii")
        if "%" in path:
            path = unquote(path)
        return path if is_segments_path(path) else None


class _Cycle:
    """A read and its answer, with those fields of uvicorn's cycle that its protocol looks at."""

    task: "asyncio.Task[None]"
    message_event = _NOBODY
    disconnected = False
    response_complete = False
    more_body = True

    def __init__(self, protocol: DirectProtocol, path: str, head_only: bool, keep_alive: bool) -> None:
        self._protocol = protocol
        self._path = path
        self._head_only = head_only
        self.keep_alive = keep_alive

    async def run(self, read: Read) -> None:
        """Answer. Raises only what is a fault here: then the connection ends, lest its client wait for ever."""
        try:
            await self._run(read)
        except BaseException:
            self._protocol.transport.close()
            raise
        finally:
            self._protocol.tasks.discard(self.task)
            del self._protocol, self.task  # they hold this cycle, and only the collector would part them

    async def _run(self, read: Read) -> None:
        protocol = self._protocol
        status, headers, body = await read(self._path)
        if protocol.flow.write_paused and not self.disconnected:
            await protocol.flow.drain()
        if self.disconnected:
            return
        lines = header_lines(tuple(protocol.server_state.default_headers)) + header_lines(headers)
        protocol.transport.write(
            whole_answer(status, lines, body, close=not self.keep_alive, head_only=self._head_only)
        )
        self.response_complete = True
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()
