"""Requests at a rate, each sent when its time has come, however slow the answers are: what a closed loop hides.

    python -m benchmarks.open_loop HOST PORT RATE SECONDS [FILE]

Each line of the file, or of the standard input, is a path to get, or a JSON body to post to /firehose.

Prints how many answers were not 200, and the latencies' p50, p99 and greatest in milliseconds, each counted from the
moment when the request was due.
"""

import asyncio
import sys
import time
from pathlib import Path

import uvloop

from benchmarks.report import percentile

_WARM_UP = 0.2
"""Share of the requests that is sent first and not counted: connections are opened and caches filled"""


class Line(asyncio.Protocol):
    """A connection with one request under way at a time."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._found = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._found += data
        head, ended, body = self._found.partition(b"\r\n\r\n")
        if ended and len(body) >= int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            self._found = b""
            self._load.answered(self, head, self._due)

    def connection_lost(self, _error: Exception | None) -> None:
        self._load.lost(self)


def _request(line: bytes) -> bytes:
    if line.startswith(b"/"):
        return b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % line
    head = b"POST /firehose HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(line) + line


class Load:
    """What is sent and what came back."""

    def __init__(self, host: str, port: int, lines: list[bytes]) -> None:
        self._address = host, port
        self._requests = [_request(line) for line in lines]
        self._idle: list[Line] = []
        self.taken: list[float] = []
        self.refused = 0
        self._left = 0
        """answers that are to come; below 0 while requests are still sent"""
        self._done = asyncio.Event()

    async def run(self, rate: float, seconds: float) -> None:
        """Send for so long, and wait for every answer."""
        count = int(rate * seconds)
        started = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                due = started + number / rate
                if (early := due - time.perf_counter()) > 0:
                    await asyncio.sleep(early)
                request = self._requests[number % len(self._requests)]
                if self._idle:
                    self._idle.pop().ask(request, due)
                else:
                    tasks.create_task(self._over_a_new_line(request, due))
        self._left += count
        if self._left:
            await self._done.wait()

    async def _over_a_new_line(self, request: bytes, due: float) -> None:
        _, line = await asyncio.get_running_loop().create_connection(lambda: Line(self), *self._address)
        line.ask(request, due)

    def answered(self, line: Line, head: bytes, due: float) -> None:
        """A whole answer has come."""
        self._idle.append(line)
        self.taken.append((time.perf_counter() - due) * 1000)
        self.refused += b" 200 " not in head.split(b"\r\n")[0]
        self._left -= 1
        if self._left == 0:
            self._done.set()

    def lost(self, line: Line) -> None:
        """The server has closed a connection that was idle for long."""
        if line in self._idle:
            self._idle.remove(line)


async def main(host: str, port: int, rate: float, seconds: float, given: bytes) -> None:
    """Send, and print the figures."""
    lines = given.splitlines()
    await Load(host, port, lines).run(rate, seconds * _WARM_UP)
    load = Load(host, port, lines)
    await asyncio.wait_for(load.run(rate, seconds), seconds + 30)
    taken = load.taken
    figures = load.refused, percentile(taken, 0.5), percentile(taken, 0.99), max(taken)
    sys.stdout.write(" ".join(map(str, figures)) + "\n")


if __name__ == "__main__":
    requests = Path(sys.argv[5]).read_bytes() if len(sys.argv) > 5 else sys.stdin.buffer.read()  # noqa: PLR2004
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), requests))
