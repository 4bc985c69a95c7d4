"""A gateway of several processes, started and looked at from outside."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from audience_stream.embedded import free_port
from tests.pipeline.running import eventually

_GONE = (FileNotFoundError, ProcessLookupError)
"""Raised for a process that ends before its file is opened, or before it is read"""


def children(pid: int) -> list[int]:
    """Process ids of a process's children that run, oldest first; none when it is gone."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except _GONE:
        return []
    return [int(child) for child in listed.split() if is_running(int(child))]


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except _GONE:
        return False


def kill(pid: int) -> None:
    """SIGKILL, and wait until the kernel has taken its sockets from it."""
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: is_running(pid), 5, False)


class Gateway:
    """A gateway of the test's own, beside the servers that its environment names."""

    def __init__(self, environment: dict[str, str], log: Path, **settings: str) -> None:
        self.port = int(settings.pop("AUDIENCE_GATEWAY_PORT", free_port()))
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
        named = {
            "AUDIENCE_GATEWAY_PORT": str(self.port),
            "AUDIENCE_LOG_FORMAT": "json",
            "AUDIENCE_LOG_LEVEL": "warning",
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "audience_stream", "gateway"],
                env={**inherited, **environment, **named, **settings},
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def probe(self, path: str = "/readyz") -> int:
        """Status of a probe's answer, over a connection of its own; 0 when none comes."""
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}{path}", trust_env=False, timeout=1.5).status_code
        return 0

    def become_ready(self) -> None:
        eventually(self.probe, 20, 200)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Fields of each line of the log that tells of an event."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def said(self) -> str:
        return self._log.read_text()


@contextlib.contextmanager
def gateway(environment: dict[str, str], log: Path, **settings: str) -> Iterator[Gateway]:
    """Run a gateway until the block ends; whatever is left of it then is killed."""
    running = Gateway(environment, log, **settings)
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.process.wait(10)
