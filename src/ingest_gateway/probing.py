"""`/livez`, `/readyz` and `/metrics`: of this process, or of all that share the port, whichever of them is asked."""

import asyncio
import contextlib
import copy
import json
import socket
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Metric, generate_latest
from prometheus_client.registry import Collector

from audience_core.observability.probes import Answer, metrics_answer, probe_answer
from ingest_gateway.processes import Part

PATHS = frozenset({b"/livez", b"/readyz", b"/metrics"})
_TIMEOUT_S = 1.0
_FAMILY = b"# HELP "
_END = b"\0"
"""Of an answer that is whole: its process may die in the middle of it."""

Ready = Callable[[], Answer]


class Probes:
    """Those of this process."""

    def __init__(self, ready: Ready) -> None:
        self._ready = ready

    def start(self) -> list["asyncio.Task[None]"]:
        """Begin; the caller ends the tasks."""
        return []

    async def answer(self, path: bytes) -> Answer:
        """`path` is one of PATHS."""
        if path == b"/metrics":
            return metrics_answer()
        return self._ready() if path == b"/readyz" else probe_answer([])


class SharedProbes(Probes):
    """Those of all processes. Each listens on a socket without a file, whose name ends with the process, and is asked
    there by whoever was asked: a path and a line's end in, the body of the answer out."""

    def __init__(self, part: Part, ready: Ready) -> None:
        super().__init__(ready)
        self._part = part
        self._registry = _Labelled(str(part.index))

    def start(self) -> list["asyncio.Task[None]"]:
        """As Probes has it."""
        return [asyncio.create_task(self._answer_the_others())]

    async def answer(self, path: bytes) -> Answer:
        """As Probes has it."""
        bodies = await asyncio.gather(*(self._ask(index, path) for index in range(self._part.count)))
        if path == b"/metrics":
            return Answer(200, CONTENT_TYPE_LATEST, merged([body for body in bodies if body]))
        missing: list[str] = []
        notes: list[str] = []
        for index, body in enumerate(bodies):
            if body is None:  # the parent sees to it; a restart of the whole would only take the others away
                (notes if path == b"/livez" else missing).append(f"process {index} is being started")
            elif not body:
                missing.append(f"process {index} does not answer")
            else:
                said = json.loads(body)
                missing += [f"process {index}: {what}" for what in said["missing"]]
                notes += [f"process {index}: {what}" for what in said.get("notes", ())]
        return probe_answer(missing, notes)

    def _own(self, path: bytes) -> bytes:
        if path == b"/metrics":
            return generate_latest(self._registry)
        return (self._ready() if path == b"/readyz" else probe_answer([])).body

    async def _ask(self, index: int, path: bytes) -> bytes | None:
        """The body of a process's answer; empty when it is silent, None when it does not run."""
        if index == self._part.index:
            return self._own(path)
        asking = socket.socket(socket.AF_UNIX)
        asking.setblocking(False)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await asyncio.get_running_loop().sock_connect(asking, self._address(index))
                reader, writer = await asyncio.open_unix_connection(sock=asking)
                with contextlib.closing(writer):
                    writer.write(path + b"\n")
                    body = await reader.read()
                    return body.removesuffix(_END) if body.endswith(_END) else b""
        except ConnectionRefusedError:
            return None
        except OSError:  # a timeout is one too
            return b""
        finally:
            asking.close()

    async def _answer_the_others(self) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self._address(self._part.index))
        async with await asyncio.start_unix_server(self._serve, sock=listener) as server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            path = (await reader.readline()).rstrip()
            if path in PATHS:
                writer.write(self._own(path) + _END)
                await writer.drain()

    def _address(self, index: int) -> str:
        return f"\0audience-gateway-{self._part.gateway}-{index}"


def probes_of(part: Part | None, ready: Ready) -> Probes:
    """For one of several processes, or for the only one."""
    return Probes(ready) if part is None else SharedProbes(part, ready)


class _Labelled(Collector):
    """Every metric of this process, with a label that says whose it is.

    Sums of counters would fall when a process is replaced, and Prometheus would take the rest for new events.
    """

    def __init__(self, process: str) -> None:
        self._process = process

    def collect(self) -> Iterable[Metric]:
        """What `generate_latest` asks for."""
        for family in REGISTRY.collect():
            labelled = copy.copy(family)  # some collectors hand out the same object every time
            labelled.samples = [
                sample._replace(labels={**sample.labels, "process": self._process}) for sample in family.samples
            ]
            yield labelled


def merged(texts: list[bytes]) -> bytes:
    """One text of several in Prometheus's format: a family's lines have to stand together, under one head."""
    families: dict[bytes, list[Any]] = {}
    for text in texts:
        for family in text.split(_FAMILY)[1:]:
            name_and_help, kind, samples = family.split(b"\n", 2)
            families.setdefault(name_and_help, [_FAMILY, name_and_help, b"\n", kind, b"\n"]).append(samples)
    return b"".join(part for parts in families.values() for part in parts)
