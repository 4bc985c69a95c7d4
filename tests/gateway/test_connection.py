"""What the gateway's own protocol does with a connection, over real sockets."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from audience_core.observability import metrics
from ingest_gateway import answers
from ingest_gateway.answers import Answer
from ingest_gateway.connection import Connection, Limits, Request

Scene = Callable[["Server"], Awaitable[None]]


@dataclass
class Server:
    """Echoes bodies, and holds each answer until `go` is set."""

    port: int
    state: Any
    go: asyncio.Event
    seen: list[Request]

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, *sent: bytes) -> bytes:
        """Everything that comes back until the server closes."""
        reader, writer = await self.dial()
        for part in sent:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        found = await reader.read()
        writer.close()
        return found


@asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[Server]:
    go, seen = asyncio.Event(), list[Request]()
    go.set()

    async def handle(request: Request) -> Answer:
        seen.append(request)
        await go.wait()
        if request.problem is not None:
            return request.problem
        if request.body is None:
            return answers.NOT_FOUND
        return Answer(200, str(request.body.parse()).encode())

    state = SimpleNamespace(connections=set(), tasks=set(), default_headers=[(b"date", b"now")])
    bounds = Limits(**{"body": 1000, "connections": 10, "header_timeout": 5, "request_timeout": 5} | limits)
    config = SimpleNamespace(app=handle)
    make = partial(Connection, bounds, config=config, server_state=state, app_state={})
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    try:
        yield Server(server.sockets[0].getsockname()[1], state, go, seen)
    finally:
        server.close()
        for connection in list(state.connections):
            connection.close()
        await until(lambda: not state.connections)


def play(scene: Scene, **limits: Any) -> None:
    async def run() -> None:
        async with serving(**limits) as server, asyncio.timeout(20):
            await scene(server)

    asyncio.run(run())


async def until(holds: Callable[[], bool]) -> None:
    """Wait for it; `play` bounds all waiting."""
    while not holds():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)


def posted(body: bytes, *more: str, path: str = "/firehose", version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: gateway", f"Content-Length: {len(body)}", *more, "", ""]
    return "\r\n".join(lines).encode() + body


LAST = "Connection: close"


def test_requests_of_one_connection_are_answered_in_their_order() -> None:
    async def scene(server: Server) -> None:
        found = await server.exchange(posted(b'{"n":1}') + posted(b'{"n":2}') + posted(b'{"n":3}', LAST))
        assert [found.index(b"{'n': %d}" % n) for n in (1, 2, 3)] == sorted(
            found.index(b"{'n': %d}" % n) for n in (1, 2, 3)
        )
        assert found.count(b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-type: application/json\r\n") == 3
        assert found.count(b"connection: close") == 1

    play(scene)


def test_nothing_more_is_read_while_requests_wait() -> None:
    async def scene(server: Server) -> None:
        server.go.clear()
        reader, writer = await server.dial()
        writer.write(posted(b'{"n":1}') + posted(b'{"n":2}'))
        flood = asyncio.create_task(_flood(writer))
        await asyncio.sleep(0.3)
        assert not flood.done()
        assert len(server.seen) == 1
        server.go.set()
        assert await reader.readexactly(15) == b"HTTP/1.1 200 OK"
        flood.cancel()
        writer.close()

    async def _flood(writer: asyncio.StreamWriter) -> None:
        for _ in range(5000):
            writer.write(posted(b"{" + b" " * 900 + b"}"))
            await writer.drain()

    play(scene)


def test_a_body_may_come_byte_by_byte_or_in_chunks_or_packed() -> None:
    async def scene(server: Server) -> None:
        whole = posted(b'{"n":1}', LAST)
        assert (await server.exchange(*[whole[n : n + 1] for n in range(len(whole))])).endswith(b"{'n': 1}")
        head = "POST /firehose HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        assert (await server.exchange(head.encode(), b'3\r\n{"n\r\n', b'4\r\n":1}\r\n0\r\n\r\n')).endswith(b"{'n': 1}")
        packed = gzip.compress(b'{"n":1}')
        assert (await server.exchange(posted(packed, "Content-Encoding: gzip", LAST))).endswith(b"{'n': 1}")

    play(scene)


def test_paths_are_read_without_their_query_and_out_of_a_whole_address() -> None:
    async def scene(server: Server) -> None:
        for path in ("/firehose?x=1", "http://gateway:8080/firehose"):
            assert (await server.exchange(posted(b'{"n":1}', LAST, path=path))).endswith(b"{'n': 1}")
        assert (await server.exchange(posted(b'{"n":1}', LAST, path="/firehose/x"))).startswith(b"HTTP/1.1 404 ")

    play(scene)


def test_the_older_http_is_answered_and_closed() -> None:
    async def scene(server: Server) -> None:
        found = await server.exchange(posted(b'{"n":1}', version="1.0"))
        assert found.endswith(b"{'n': 1}")
        assert b"connection: close" in found

    play(scene)


def test_an_answer_to_head_has_no_body() -> None:
    async def scene(server: Server) -> None:
        found = await server.exchange(b"HEAD /firehose HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
        head, _, body = found.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 405 ")
        assert b"content-length: %d" % len(answers.METHOD_NOT_ALLOWED.body) in head
        assert body == b""

    play(scene)


def test_who_asks_first_may_go_on_unless_the_body_would_be_refused() -> None:
    async def scene(server: Server) -> None:
        reader, writer = await server.dial()
        head, body = posted(b'{"n":1}', "Expect: 100-continue", LAST)[:-7], b'{"n":1}'
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.read()).endswith(b"{'n': 1}")
        writer.close()
        refused = await server.exchange(
            b"POST /firehose HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n"
        )
        assert refused.startswith(b"HTTP/1.1 413 ")

    play(scene)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01 this is TLS", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"POST /firehose HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"CONNECT gateway:80 HTTP/1.1\r\nHost: g\r\n\r\n", 400),
        (posted(b"x" * 1001), 413),
        (posted(gzip.compress(b" " * 1001), "Content-Encoding: gzip"), 413),
        (posted(b"{}", "Content-Encoding: br", LAST), 415),
        (b"GET /firehose HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nmore", 405),
    ],
)
def test_what_is_no_request_for_firehose_gets_its_answer_and_a_closed_connection(sent: bytes, status: int) -> None:
    async def scene(server: Server) -> None:
        found = await server.exchange(sent)
        assert found.startswith(b"HTTP/1.1 %d " % status)
        assert found.count(b"HTTP/1.1 ") == 1
        assert b'{"error": ' in found

    play(scene)


def test_a_chunked_body_over_the_limit_is_refused_before_its_end() -> None:
    async def scene(server: Server) -> None:
        head = b"POST /firehose HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"
        found = await server.exchange(head, b"3e8\r\n%b\r\n" % (b" " * 1000), b"1\r\n \r\n")
        assert found.startswith(b"HTTP/1.1 413 ")

    play(scene)


def test_slow_headers_and_idle_connections_are_closed_and_a_slow_body_is_told() -> None:
    async def scene(server: Server) -> None:
        assert await server.exchange(b"POST /fire") == b""
        assert await server.exchange() == b""
        assert (await server.exchange(posted(b'{"n":1}')[:-1])).startswith(b"HTTP/1.1 408 ")
        assert (await server.exchange(posted(b'{"n":1}'))).endswith(b"{'n': 1}")

    play(scene, header_timeout=0.2, request_timeout=0.2, idle_timeout=0.2)


def test_a_connection_too_many_is_turned_away_and_counted() -> None:
    unavailable = metrics.GATEWAY_UNAVAILABLE.labels("connections")

    async def scene(server: Server) -> None:
        before = unavailable._value.get()  # noqa: SLF001 - prometheus_client has no other way
        _, writer = await server.dial()
        found = await server.exchange()
        assert found.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in found
        assert unavailable._value.get() == before + 1  # noqa: SLF001
        writer.close()
        await until(lambda: not server.state.connections)
        assert (await server.exchange(posted(b'{"n":1}', LAST))).endswith(b"{'n': 1}")

    play(scene, connections=1)


def test_a_stop_answers_what_is_at_hand_and_closes_what_is_idle() -> None:
    async def scene(server: Server) -> None:
        server.go.clear()
        busy, idle = await server.dial(), await server.dial()
        busy[1].write(posted(b'{"n":1}'))
        await until(lambda: bool(server.seen) and len(server.state.connections) == 2)
        for connection in list(server.state.connections):
            connection.shutdown()
        assert await idle[0].read() == b""
        assert len(server.state.tasks) == 1
        server.go.set()
        found = await busy[0].read()
        assert found.endswith(b"{'n': 1}")
        assert b"connection: close" in found
        assert not server.state.tasks
        for _, writer in (busy, idle):
            writer.close()

    play(scene)


def test_who_leaves_before_the_answer_harms_nobody() -> None:
    async def scene(server: Server) -> None:
        server.go.clear()
        _, writer = await server.dial()
        writer.write(posted(b'{"n":1}'))
        await until(lambda: bool(server.seen))
        writer.transport.abort()
        await until(lambda: not server.state.connections)
        server.go.set()
        await until(lambda: not server.state.tasks)
        assert (await server.exchange(posted(b'{"n":2}', LAST))).endswith(b"{'n': 2}")

    play(scene)
