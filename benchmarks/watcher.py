"""Sends changes at a rate and asks until each is seen: `python -m benchmarks.watcher`, told by JSON on standard input.

Prints JSON: for `seen` (by the segment API) and `listed` (in the listing) p50, p99 and max of the milliseconds.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

import uvloop

from benchmarks.report import percentile

_ASK_EVERY_S = 0.002
_WITHIN_S = 30.0


class Client:
    """HTTP over as many kept connections as are under way at a time."""

    def __init__(self, url: str, headers: str = "") -> None:
        target = urlsplit(url)
        self._host, self._port, self._headers = str(target.hostname), target.port or 80, headers
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The body of an answer, which must be a 200."""
        head = f"{method} {path} HTTP/1.1\r\nHost: h\r\n{self._headers}Content-Length: {len(body)}\r\n\r\n"
        while self._idle:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # idle for too long
                return await self._over(self._idle.pop(), head.encode() + body)
        return await self._over(await asyncio.open_connection(self._host, self._port), head.encode() + body)

    async def _over(self, line: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes) -> bytes:
        line[1].write(request)
        answer = (await line[0].readuntil(b"\r\n\r\n")).lower()
        found = await line[0].readexactly(int(answer.split(b"content-length: ")[1].split(b"\r\n")[0]))
        self._idle.append(line)
        if not answer.startswith(b"http/1.1 200 "):
            raise RuntimeError(f"{answer.decode()}{found.decode()}")
        return found


def _message(key: str, kind: str, **fields: Any) -> bytes:
    account = {"account_settings": {"apiKey": key}}
    return json.dumps(
        {"type": kind, "timestamp_ms": time.time_ns() // 1_000_000, "account": account, **fields}
    ).encode()


def _enter(key: str, mpid: str, audience: int) -> bytes:
    items = [{"audience_id": audience, "audience_name": "A", "action": "add"}]
    profiles = [{"mpid": mpid, "audiences": items}]
    return _message(key, "audience_membership_change_request", user_profiles=profiles)


async def _until_seen(is_seen: Callable[[], Awaitable[bool]]) -> float:
    started = time.perf_counter()
    async with asyncio.timeout(_WITHIN_S):
        while not await is_seen():  # noqa: ASYNC110 - it is asked as an SDK asks
            await asyncio.sleep(_ASK_EVERY_S)
    return (time.perf_counter() - started) * 1000


async def _at_rate(rate: float, count: int, one: Callable[[int], Coroutine[Any, Any, float]]) -> dict[str, float]:
    started = time.perf_counter()
    tasks = []
    for number in range(count):
        await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number)))
    taken = await asyncio.gather(*tasks)
    taken = taken[count // 10 :]  # connections are opened and caches filled by the first
    return {"p50": percentile(taken, 0.5), "p99": percentile(taken, 0.99), "max": max(taken)}


async def main(told: dict[str, Any]) -> None:
    """Send, ask and print."""
    gateway = Client(told["gateway"], "Content-Type: application/json\r\n")
    api = Client(told["api"], f"Authorization: Bearer {told['token']}\r\n")
    key = told["key"]

    async def seen(number: int) -> float:
        mpid = f"fresh-{number}"
        await gateway.ask("POST", "/firehose", _enter(key, mpid, 1001))

        async def is_seen() -> bool:
            return await api.ask("GET", f"/accounts/demo/segments/{mpid}") != b"[]"

        return await _until_seen(is_seen)

    async def listed(number: int) -> float:
        audience = 2000 + number
        await gateway.ask("POST", "/firehose", _enter(key, f"first-{number}", audience))

        async def is_listed() -> bool:
            found = await api.ask("GET", f"/v1/accounts/demo/audiences?q={audience}")
            return bool(json.loads(found)["audiences"])

        return await _until_seen(is_listed)

    for number in range(told["firsts"]):
        fields = {"audience_id": 2000 + number, "audience_name": f"A{number}", "action": "add"}
        await gateway.ask("POST", "/firehose", _message(key, "audience_subscription_request", **fields))
    figures = {
        "seen": await _at_rate(told["rate"], told["count"], seen),
        "listed": await _at_rate(told["firsts_rate"], told["firsts"], listed),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    uvloop.run(main(json.load(sys.stdin)))
