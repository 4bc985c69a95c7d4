"""Reads that are answered without ASGI are answered as uvicorn answers them, byte for byte."""

import asyncio
import gc
import itertools
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from segment_api.asgi import JSON_TYPE, RETRY_AFTER, Receive, Scope, Send, answer
from segment_api.direct import DirectProtocol, Read
from segment_api.segments import SegmentsAnswer

PATHS = (
    "/accounts/acme/segments/42",
    "/accounts/acme/segments/a%2Fb%20c?with=a&query",
    "/accounts/acme/segments/%C3%A9/and/slashes",
    "/accounts/acme/segments/503",
    "/accounts/acme/segments/",
    "http://api.example/accounts/acme/segments/42",
    "/accounts/acme/other",
    "/livez",
)
HEADERS = ("", "Connection: close\r\n", "Connection: keep-alive\r\n", "Accept: */*\r\nX-Odd: \r\n", "Upgrade: h2c\r\n")
ENDS = (
    "\r\n",
    "Content-Length: 3\r\n\r\nabc",
    "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
)
BROKEN = ("GET /accounts/acme/segments/\xff HTTP/1.1\r\n\r\n", "GET\r\n\r\n", "GET /accounts/a HTTP/9.9\r\n\r\n")

request = st.builds(
    "{} {} HTTP/{}\r\nHost: api\r\n{}{}".format,
    st.sampled_from(("GET", "GET", "GET", "HEAD", "OPTIONS", "POST")),
    st.sampled_from(PATHS),
    st.sampled_from(("1.1", "1.1", "1.1", "1.0")),
    st.sampled_from(HEADERS),
    st.sampled_from(ENDS),
)
conversation = st.lists(request | st.sampled_from(BROKEN), min_size=1, max_size=4).map(
    lambda requests: "".join(requests).encode("latin-1")
)


async def read(path: str) -> SegmentsAnswer:
    """Tell the path that was asked for, later if it is an odd one, and fail as Redis may."""
    for _ in range(len(path) % 3):
        await asyncio.sleep(0)
    if path.endswith("503"):
        return 503, (JSON_TYPE, RETRY_AFTER), b"[]"
    return 200, (JSON_TYPE, (b"cache-control", b"no-store")), path.encode()


async def app(scope: Scope, _receive: Receive, send: Send) -> None:
    """The same by ASGI; what is no read gets an answer of another kind."""
    is_read = scope["method"] in {"GET", "HEAD"} and scope["path"].startswith("/accounts/acme/segments/")
    status, headers, body = await read(scope["path"]) if is_read else (404, (JSON_TYPE,), b"elsewhere")
    await answer(scope, send, status, body, headers)


class Connection(asyncio.Transport):
    """The server's side of a connection, without a network."""

    def __init__(self, protocol: Callable[..., asyncio.Protocol], state: ServerState) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.reads = True
        self.state = state
        config = uvicorn.Config(app, lifespan="off", access_log=False, log_config=None, ws="none")
        config.load()
        self.protocol: Any = protocol(config=config, server_state=state, app_state={})
        self.protocol.connection_made(self)

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    async def say(self, data: bytes) -> None:
        """Hand over what has come, when it is wanted, and wait until there is nothing to do."""
        await self.rest()
        assert self.reads or self.closed
        if not self.closed:
            self.protocol.data_received(data)
        await self.rest()

    async def rest(self) -> None:
        while self.state.tasks:
            await asyncio.wait(set(self.state.tasks))


def talk(scene: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scene()

    asyncio.run(bounded())


def direct(reading: Read = read) -> Connection:
    return Connection(partial(DirectProtocol, reading), ServerState())


@settings(max_examples=400)
@given(conversation, st.lists(st.integers(0, 600), max_size=4))
def test_whatever_is_said_to_it_it_says_what_uvicorn_says(said: bytes, cuts: list[int]) -> None:
    async def scene() -> None:
        connections = [direct(), Connection(HttpToolsProtocol, ServerState())]
        for start, end in itertools.pairwise([0, *sorted({cut for cut in cuts if 0 < cut < len(said)}), len(said)]):
            for connection in connections:
                await connection.say(said[start:end])
        ours, uvicorns = connections
        assert (ours.written, ours.closed) == (uvicorns.written, uvicorns.closed)
        for connection in connections:
            connection.protocol.connection_lost(None)

    talk(scene)


@pytest.mark.parametrize(
    ("path", "status", "body"), [(PATHS[0], b"200 OK", PATHS[0].encode()), (PATHS[3], b"503", b"[]")]
)
def test_a_read_has_a_whole_answer(path: str, status: bytes, body: bytes) -> None:
    async def scene() -> None:
        connection = direct()
        await connection.say(f"GET {path} HTTP/1.1\r\nHost: api\r\n\r\n".encode())
        assert connection.written.startswith(b"HTTP/1.1 " + status)
        assert b"content-length: %d\r\n" % len(body) in connection.written
        assert connection.written.endswith(b"\r\n\r\n" + body)
        assert not connection.closed
        connection.protocol.connection_lost(None)

    talk(scene)


def test_a_read_is_answered_without_asgi_and_something_else_with_it() -> None:
    asked: list[str] = []

    async def noting(path: str) -> SegmentsAnswer:
        asked.append(path)
        return await read(path)

    async def scene() -> None:
        connection = direct(noting)
        for path in PATHS:
            await connection.say(f"GET {path} HTTP/1.1\r\nHost: api\r\n\r\n".encode())
        connection.protocol.connection_lost(None)

    talk(scene)
    visitors = ("42", "a/b c", "é/and/slashes", "503", "")
    assert asked == [f"/accounts/acme/segments/{visitor}" for visitor in visitors]


def test_a_fault_ends_the_connection_and_is_told() -> None:
    async def fail(_path: str) -> SegmentsAnswer:
        raise ValueError("a fault of the test")

    async def scene() -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        connection = direct(fail)
        await connection.say(b"GET /accounts/acme/segments/1 HTTP/1.1\r\nHost: api\r\n\r\n")
        assert (connection.written, connection.closed) == (b"", True)
        connection.protocol.connection_lost(None)
        await asyncio.sleep(0)
        assert [str(error) for error in told] == ["a fault of the test"]

    talk(scene)


def held_until(go_on: asyncio.Event) -> Callable[[str], Awaitable[SegmentsAnswer]]:
    """A reader that answers once it may."""

    async def slow(path: str) -> SegmentsAnswer:
        await go_on.wait()
        return await read(path)

    return slow


@pytest.mark.parametrize("goes", [False, True])
def test_a_stop_lets_the_read_at_hand_end_and_a_client_that_goes_gets_nothing(goes: bool) -> None:
    async def scene() -> None:
        go_on = asyncio.Event()
        connection = direct(held_until(go_on))
        connection.protocol.data_received(b"GET /accounts/acme/segments/1 HTTP/1.1\r\nHost: api\r\n\r\n")
        connection.protocol.shutdown()
        await asyncio.sleep(0)
        assert not connection.is_closing()
        if goes:
            connection.protocol.connection_lost(None)
        go_on.set()
        await connection.rest()
        assert connection.written.endswith(b"/accounts/acme/segments/1") is not goes
        assert (b"connection: close\r\n" in connection.written) is not goes
        assert connection.is_closing()
        if not goes:
            connection.protocol.connection_lost(None)

    talk(scene)


def test_the_body_of_a_read_is_not_kept_and_what_follows_is_read() -> None:
    async def scene() -> None:
        go_on = asyncio.Event()
        connection = direct(held_until(go_on))
        connection.protocol.data_received(
            b"GET /accounts/acme/segments/1 HTTP/1.1\r\nHost: api\r\nContent-Length: 300000\r\n\r\n"
        )
        connection.protocol.data_received(b"x" * 300_000)
        assert connection.reads  # uvicorn stops reading when it keeps more than 64 KB
        go_on.set()
        await connection.rest()
        await connection.say(b"GET /accounts/acme/segments/2 HTTP/1.1\r\nHost: api\r\n\r\n")
        assert connection.written.count(b"HTTP/1.1 200") == 2
        connection.protocol.connection_lost(None)

    talk(scene)


def test_a_connection_that_has_ended_leaves_nothing_to_the_collector() -> None:
    async def scene() -> None:
        connection = direct()
        await connection.say(b"GET /accounts/acme/segments/1 HTTP/1.1\r\nHost: api\r\n\r\n")
        connection.protocol.connection_lost(None)
        left = weakref.ref(connection.protocol)
        gc.disable()
        try:
            connection.protocol = None
            await asyncio.sleep(0)  # its task is forgotten
            assert left() is None
        finally:
            gc.enable()

    talk(scene)
