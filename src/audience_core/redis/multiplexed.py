"""Many small reads at a time over few connections: what is asked in one turn of the event loop goes out in one write.

redis-py's asyncio client lends each caller a connection and awaits each reply by itself, which costs more than all else
of a read (docs/performance.md). Here replies are parsed by hiredis as they arrive and handed out in the order of the
questions, as Redis promises (https://redis.io/docs/latest/develop/use/pipelining/).
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol, cast

import hiredis
from redis.asyncio.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from audience_core.redis.connect import AsyncRedis, redis_faults
from audience_core.settings import CoreSettings

Command = tuple[str | int, ...]
_CONNECTIONS = 2
_GRACE_S = 0.02
_REFUSALS = ("ERR max number of clients", "NOAUTH", "WRONGPASS")


class Reader(Protocol):
    """Asks Redis several things at once. Raises RedisUnavailable, within the bound that it was made with."""

    async def ask(self, *commands: Command) -> list[Any]:
        """Replies in the order of the commands, as Redis sends them: sets and hashes as flat lists."""
        ...

    def close(self) -> None:
        """Close the connections."""


def make_reader(settings: CoreSettings, client: AsyncRedis, bound_s: float) -> Reader:
    """A reader of one server; for Redis Cluster, Sentinels and TLS one over redis-py, which knows their options."""
    url = settings.redis_url.get_secret_value()
    if settings.redis_mode == "standalone" and not url.startswith("rediss:"):
        return MultiplexedReader(url, bound_s)
    return PooledReader(client, bound_s)


class PooledReader:
    """Asks by redis-py's pipelines, which follow slots and masters."""

    def __init__(self, client: AsyncRedis, bound_s: float, most: int = 64) -> None:
        self._client: Any = client
        self._bound_s = bound_s
        self._free = asyncio.Semaphore(most)  # more would only wait for the client's pool

    async def ask(self, *commands: Command) -> list[Any]:
        """As Reader. A read that takes too long is left behind, and ends by the client's own time-out."""
        task = asyncio.create_task(self._ask(commands))
        try:
            # not asyncio.timeout: in a crowd redis-py now and then loses a cancellation, and its caller waits on
            done, _ = await asyncio.wait({task}, timeout=self._bound_s)
        finally:
            task.cancel()  # does nothing to a finished one
        if not done:
            task.add_done_callback(lambda left: left.cancelled() or left.exception())  # nobody else looks at it
        with redis_faults("reading"):
            if not done:
                raise RedisTimeoutError
            return task.result()

    def close(self) -> None:
        """Nothing: the client belongs to whoever made it."""

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        async with self._free:
            pipe = self._client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            replies = await pipe.execute()
        return [_flat(reply) for reply in replies]


def _flat(reply: Any) -> Any:
    if isinstance(reply, dict):
        return [item for pair in reply.items() for item in pair]
    return list(reply) if isinstance(reply, set) else reply


class MultiplexedReader:
    """Asks one server over a few connections, made when they are first needed and again after they broke."""

    def __init__(self, url: str, bound_s: float, connections: int = _CONNECTIONS) -> None:
        self._given: dict[str, Any] = dict(parse_url(url))
        self._bound_s = bound_s
        self._lines: list[_Line | None] = [None] * connections
        self._opening: dict[int, asyncio.Task[_Line]] = {}
        self._turn = 0

    async def ask(self, *commands: Command) -> list[Any]:
        """As Reader."""
        self._turn = (self._turn + 1) % len(self._lines)
        line = self._lines[self._turn]
        try:
            if line is None or not line.is_open:
                line = await self._opened(self._turn)
            replies = await line.ask(commands)
            for reply in replies:
                if isinstance(reply, hiredis.ReplyError):
                    raise _error(reply)
        except RedisError:
            with redis_faults("reading"):  # here, because entering it for every question would be felt
                raise
        return replies

    def close(self) -> None:
        """As Reader."""
        for line in self._lines:
            if line is not None:
                line.fail(RedisConnectionError("closed"))

    async def _opened(self, slot: int) -> "_Line":
        task = self._opening.get(slot)
        if task is None:
            task = self._opening[slot] = asyncio.create_task(self._open())
            task.add_done_callback(lambda done: self._keep(slot, done))
        try:
            return await asyncio.shield(task)
        except OSError as error:  # a TimeoutError too
            raise RedisConnectionError(type(error).__name__) from error

    def _keep(self, slot: int, task: "asyncio.Task[_Line]") -> None:
        del self._opening[slot]
        if not task.cancelled() and task.exception() is None:
            self._lines[slot] = task.result()

    async def _open(self) -> "_Line":
        given, loop = self._given, asyncio.get_running_loop()
        async with asyncio.timeout(1.5 * self._bound_s):  # a crowd that comes first keeps the loop busy
            if "path" in given:
                _, line = await loop.create_unix_connection(lambda: _Line(self._bound_s), given["path"])
            else:
                host, port = given.get("host", "localhost"), given.get("port", 6379)
                _, line = await loop.create_connection(lambda: _Line(self._bound_s), host, port)
            setup: list[Command] = []
            if given.get("password"):
                names = [given["username"]] if given.get("username") else []
                setup.append(("AUTH", *names, given["password"]))
            if given.get("db"):
                setup.append(("SELECT", given["db"]))
            for reply in await line.ask(setup) if setup else []:
                if isinstance(reply, hiredis.ReplyError):
                    line.fail(RedisConnectionError("refused"))
                    raise _error(reply)
        return line


def _error(reply: Exception) -> Exception:
    # redis-py too takes these for failures of the connection: they pass when the server or the password is mended
    return (RedisConnectionError if str(reply).startswith(_REFUSALS) else ResponseError)(str(reply))


class _Line(asyncio.Protocol):
    """One connection: questions that were sent, and what has come back of the first of them."""

    def __init__(self, bound_s: float) -> None:
        self._bound_s = bound_s
        self._loop = asyncio.get_running_loop()
        self._parser: Any = hiredis.Reader(encoding="utf-8", errors="surrogateescape")
        self._asked: deque[tuple[asyncio.Future[list[Any]], int, float]] = deque()
        self._replies: list[Any] = []
        self._unsent: list[bytes] = []
        self._watch: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        if self._transport is None:
            raise RedisConnectionError("closed")
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._asked.append((future, len(commands), self._loop.time() + self._bound_s))
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent += [hiredis.pack_command(cast("tuple[Any, ...]", command)) for command in commands]
        if self._watch is None:
            self._watch = self._loop.call_later(self._bound_s, self._look)
        return await future

    def fail(self, error: Exception) -> None:
        """Close, and fail whatever waits: no late reply can meet another question."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        if self._watch is not None:
            self._watch.cancel()
        while self._asked:
            future = self._asked.popleft()[0]
            if not future.done():
                future.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(RedisConnectionError(type(exc).__name__ if exc else "closed by the server"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        while self._asked:
            reply = self._parser.gets()
            if reply is False:
                return
            self._replies.append(reply)
            future, expected, _ = self._asked[0]
            if len(self._replies) == expected:
                self._asked.popleft()
                if not future.done():  # its caller may have gone
                    future.set_result(self._replies)
                self._replies = []

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent = []

    def _look(self, overdue: bool = False) -> None:
        """One timer for all: the first question is the one that waits longest."""
        self._watch = None
        if not self._asked:
            return
        due, now = self._asked[0][2], self._loop.time()
        if due > now:
            self._watch = self._loop.call_at(due, self._look)
        elif overdue:
            self.fail(RedisTimeoutError("no answer in time"))
        else:  # the loop itself may have been late: let it read what has come meanwhile
            self._watch = self._loop.call_later(_GRACE_S, self._look, True)
