"""An open loop of requests: each is sent when its time has come, however slow the answers are."""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Figures:
    """What the requests met. Milliseconds, from the moment that a request was due to its whole answer."""

    taken: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    without_retry_after: int = 0

    def share(self, share: float) -> float:
        """The latency under which this share of the answers lies."""
        return sorted(self.taken)[min(len(self.taken) - 1, int(len(self.taken) * share))]

    def __str__(self) -> str:
        shares = f"p50 {self.share(0.5):.1f}, p99 {self.share(0.99):.1f}, max {max(self.taken):.1f} ms"
        return f"{len(self.taken)} requests, statuses {self.statuses}, {shares}"


class OpenLoop:
    """Posts bodies to `/firehose` at a rate, over as many connections as it takes."""

    def __init__(self, gateway_url: str) -> None:
        target = urlsplit(gateway_url)
        self._host, self._port = str(target.hostname), target.port or 80
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.figures = Figures()

    async def run(self, bodies: Iterable[bytes], rate: float) -> None:
        """Send them all and wait for every answer."""
        started = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for n, body in enumerate(bodies):
                due = started + n / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.create_task(self._post(body, due))
        for _, writer in self._idle:
            writer.close()
            with contextlib.suppress(ConnectionError):  # the server may have closed it by now
                await writer.wait_closed()
        self._idle.clear()

    async def _post(self, body: bytes, due: float) -> None:
        head = await self._exchange(
            b"POST /firehose HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        self.figures.taken.append((time.perf_counter() - due) * 1000)
        status = int(head.split(b" ")[1])
        self.figures.statuses[status] = self.figures.statuses.get(status, 0) + 1
        if status == 503 and b"retry-after:" not in head:
            self.figures.without_retry_after += 1

    async def _exchange(self, request: bytes) -> bytes:
        """Head of the answer. A kept connection that the server has closed by now is replaced, as any client does."""
        while self._idle:
            reader, writer = self._idle.pop()
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                return await self._over(reader, writer, request)
            writer.close()
        return await self._over(*await asyncio.open_connection(self._host, self._port), request)

    async def _over(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        self._idle.append((reader, writer))
        return head
