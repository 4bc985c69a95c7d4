"""What the gateway's own protocol does with a connection, over real sockets."""

import asyncio
import gc
import gzip
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from ingest_gateway import answers
from ingest_gateway.answers import Answer
from ingest_gateway.body import Refused
from ingest_gateway.connection import Connection, Limits
from ingest_gateway.request_reader import Request

LIMITS = Limits(body=1000, connections=20, header_timeout=5, request_timeout=5)
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
        if request.path == b"/large":
            return Answer(200, b"x" * 100_000)
        if request.problem is not None:
            return request.problem
        if request.body is None:
            return answers.NOT_FOUND
        try:
            return Answer(200, str(request.body.parse()).encode())
        except Refused as refused:
            return refused.answer

    state = SimpleNamespace(connections=set(), tasks=set(), default_headers=[(b"date", b"now")])
    bounds = Limits(**{"body": 1000, "connections": 20, "header_timeout": 5, "request_timeout": 5} | limits)
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
        (b"POST /firehose HTTP/1.1\r\n" + b"a: b\r\n" * 1000, 431),
        (b"POST /firehose?" + b"a" * 70_000, 431),
        (posted(gzip.compress(b"{}") + b"more", "Content-Encoding: gzip", LAST), 400),
        (posted(gzip.compress(b"{}")[:-9], "Content-Encoding: gzip", LAST), 400),
        (b"GET /firehose HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n", 405),
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
    def counted() -> tuple[float, float]:
        unavailable = REGISTRY.get_sample_value("audience_gateway_unavailable_total", {"reason": "connections"})
        requests = REGISTRY.get_sample_value("audience_gateway_requests_total", {"type": "none", "status": "503"})
        return unavailable or 0, requests or 0

    async def scene(server: Server) -> None:
        before = counted()
        _, writer = await server.dial()
        found = await server.exchange()
        assert found.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in found
        assert counted() == (before[0] + 1, before[1] + 1)
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
        server.go.set()
        await until(lambda: not server.state.tasks and not server.state.connections)
        assert (await server.exchange(posted(b'{"n":2}', LAST))).endswith(b"{'n': 2}")

    play(scene)


def test_who_has_said_all_may_still_read_the_answer() -> None:
    async def scene(server: Server) -> None:
        server.go.clear()
        reader, writer = await server.dial()
        writer.write(posted(b'{"n":1}') + posted(b'{"n":2}'))
        writer.write_eof()
        await until(lambda: bool(server.seen))
        server.go.set()
        assert (await reader.read()).endswith(b"{'n': 2}")
        writer.close()

    play(scene)


def test_who_asks_for_another_protocol_must_do_without() -> None:
    async def scene(server: Server) -> None:
        h2c = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
        reader, writer = await server.dial()
        writer.write(posted(b'{"n":1}', *h2c) + posted(b'{"n":2}', LAST))
        found = await reader.read()
        assert found.index(b"{'n': 1}") < found.index(b"{'n': 2}")
        assert found.count(b"HTTP/1.1 200 OK") == 2
        writer.close()

    play(scene)


def test_rubbish_behind_a_good_request_does_not_overtake_its_answer() -> None:
    async def scene(server: Server) -> None:
        server.go.clear()
        reader, writer = await server.dial()
        writer.write(posted(b'{"n":1}') + b"rubbish\r\n\r\n")
        await until(lambda: bool(server.seen))
        server.go.set()
        found = await reader.read()
        assert found.startswith(b"HTTP/1.1 200 OK")
        assert found.count(b"HTTP/1.1 400 ") == 1
        assert [request.problem for request in server.seen] == [None, answers.NO_HTTP]
        writer.close()

    play(scene)


def test_trailers_are_no_headers() -> None:
    async def scene(server: Server) -> None:
        head = b"POST /firehose HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        await server.exchange(head, b"2\r\n{}\r\n0\r\nAuthorization: Token x\r\n\r\n")
        assert b"authorization" not in dict(server.seen[0].headers)

    play(scene)


def test_others_have_their_turn_while_one_asks_for_much_at_once() -> None:
    async def scene(server: Server) -> None:
        _, greedy = await server.dial()
        greedy.write(b"GET /livez HTTP/1.1\r\nHost: g\r\n\r\n" * 5000)
        await until(lambda: bool(server.seen))
        assert (await server.exchange(posted(b'{"n":1}', LAST))).endswith(b"{'n': 1}")
        assert len(server.seen) < 5000
        greedy.transport.abort()

    play(scene)


def test_who_does_not_read_answers_fills_no_memory_and_does_not_stay() -> None:
    async def scene(server: Server) -> None:
        reader, writer = await server.dial()
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio would read ahead
        for _ in range(500):
            writer.write(b"GET /large HTTP/1.1\r\nHost: g\r\n\r\n")
            await asyncio.sleep(0)
        await until(lambda: not server.state.connections)
        assert len(server.seen) < 200  # what the kernel's buffers take, and no more
        writer.transport.abort()

    play(scene, write_timeout=0.5)


def test_a_packed_body_is_unpacked_when_its_turn_comes() -> None:
    async def scene(server: Server) -> None:
        server.go.clear()
        _, writer = await server.dial()
        bomb = posted(gzip.compress(b" " * 900_000), "Content-Encoding: gzip")
        tracemalloc.start()
        writer.write(bomb * 50)
        await until(lambda: bool(server.seen))
        await asyncio.sleep(0.2)  # for all that has arrived
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()
        server.go.set()
        writer.transport.abort()

    play(scene, body=1_000_000)


def test_the_older_http_is_closed_though_it_asks_to_stay() -> None:
    async def scene(server: Server) -> None:
        found = await server.exchange(posted(b'{"n":1}', "Connection: keep-alive", version="1.0"))
        assert b"connection: close" in found

    play(scene)


def test_a_refusal_reaches_a_sender_who_sends_all_before_reading() -> None:
    async def scene(server: Server) -> None:
        reader, writer = await server.dial()
        writer.write(posted(b"x" * 2_000_000))
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.write(b"x" * 1_000_000)
        assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
        writer.close()

    play(scene)


def test_a_failure_of_ours_is_told_as_one_to_try_again() -> None:
    async def scene(server: Server) -> None:
        async def fail(_: Request) -> Answer:
            raise KeyError

        transport, connection = MemoryTransport(), Connection(LIMITS, SimpleNamespace(app=fail), server.state)
        connection.connection_made(transport)
        connection.data_received(posted(b"{}"))
        await until(lambda: bool(transport.written))
        assert transport.written.startswith(b"HTTP/1.1 503 ")
        connection.connection_lost(None)

    play(scene)


class MemoryTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        self.written += data


def test_a_connection_that_has_ended_leaves_nothing_to_the_collector() -> None:
    async def scene(server: Server) -> None:
        gc.disable()
        try:
            _, writer = await server.dial()
            writer.write(posted(b"{}"))
            await until(lambda: len(server.seen) == 1)
            left = weakref.ref(next(iter(server.state.connections)))
            writer.close()
            await until(lambda: left() is None)
        finally:
            gc.enable()

    play(scene)


def test_a_fault_in_writing_an_answer_is_told_at_once() -> None:
    async def scene(server: Server) -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context.get("exception")))
        gc.disable()
        try:
            server.state.default_headers = None
            assert await server.exchange(posted(b"{}")) == b""
            await until(lambda: len(told) == 1)
        finally:
            gc.enable()
        assert isinstance(told[0], TypeError)

    play(scene)
