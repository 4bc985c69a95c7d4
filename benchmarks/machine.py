"""Servers and services of a benchmark: private, on loopback, what is measured on one core and the rest on another."""

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import redis

from audience_core.kafka.admin import TopicAdmin
from audience_core.settings import CoreSettings
from audience_stream.demo import Demo
from audience_stream.embedded import EmbeddedKafka, EmbeddedRedis, free_port

CORES = sorted(os.sched_getaffinity(0))
SUBJECT, SERVERS = CORES[:1], CORES[1:2] or CORES[:1]
SHARDS = 8


@contextlib.contextmanager
def pinned(cores: list[int]) -> Iterator[None]:
    """Processes that are started inside run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass
class Machine:
    """A Kafka and a Redis that only this run uses. `revisions`: label → environment of the code to be measured."""

    folder: Path
    kafka: str
    redis_url: str
    revisions: dict[str, dict[str, str]]
    repeats: int
    scale: float
    """share of the full amount of work"""
    minutes: float = 15
    """how long the soak lasts"""
    shards: int = SHARDS
    settings: CoreSettings = field(init=False)
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.environment = {
            "AUDIENCE_KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "AUDIENCE_KAFKA_REPLICATION": "1",
            "AUDIENCE_KAFKA_SESSION_TIMEOUT": "6s",
            "AUDIENCE_REDIS_URL": self.redis_url,
            "AUDIENCE_SHARDS": str(self.shards),
            "AUDIENCE_HOST": "127.0.0.1",
            "AUDIENCE_LOG_LEVEL": "warning",
            "AUDIENCE_PEPPER": secrets.token_urlsafe(32),
            "AUDIENCE_ADMIN_TOKEN": secrets.token_urlsafe(32),
            "AUDIENCE_METRICS_PORT": "0",
        }
        self.enter()
        self.settings = CoreSettings()
        TopicAdmin(self.settings).create_missing()

    def enter(self) -> None:
        """From now on this process and those it starts use these servers: settings are read from the environment, here
        as in every service."""
        os.environ.update(self.environment)

    @property
    def redis(self) -> Any:
        """A client of the run's Redis."""
        return redis.Redis.from_url(self.redis_url, decode_responses=True)

    def redis_cpu(self) -> float:
        """Processor time of the Redis, seconds."""
        return cpu_seconds(int(self.redis.info("server")["process_id"]))

    @contextlib.contextmanager
    def running(self, command: list[str], cores: list[int], **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A Python process on these cores, ended afterwards."""
        with pinned(cores), (self.folder / "processes.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, *command], env={**os.environ, **environment}, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def output(
        self,
        command: list[str],
        cores: list[int],
        within: float = 600.0,
        given: bytes = b"",
        python: str = sys.executable,
        **environment: str,
    ) -> str:
        """What a Python process on these cores writes to its standard output until it ends; `given` is its input."""
        with pinned(cores), (self.folder / "processes.log").open("ab") as log:
            done = subprocess.run(
                [python, *command],
                input=given,
                stdout=subprocess.PIPE,
                stderr=log,
                check=True,
                timeout=within,
                env={**os.environ, **environment},
            )
        return done.stdout.decode()

    @contextlib.contextmanager
    def service(
        self, name: str, cores: list[int], **environment: str
    ) -> "Iterator[tuple[str, subprocess.Popen[bytes]]]":
        """A service with a port, by its base URL and its process, once it is ready."""
        port = free_port()
        variable = {"gateway": "AUDIENCE_GATEWAY_PORT", "api": "AUDIENCE_API_PORT"}.get(name, "AUDIENCE_METRICS_PORT")
        with self.running(["-m", "audience_stream", name], cores, **{variable: str(port)}, **environment) as process:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: answers(f"{url}/readyz"), process)
            yield url, process


def cpu_seconds(pid: int) -> float:
    """Processor time that a process, its threads and its children have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(map(cpu_seconds, map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())))


def answers(url: str) -> bool:
    """Whether a URL answers 200."""
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def wait_for(is_so: Callable[[], bool], process: "subprocess.Popen[bytes]", within: float = 120.0) -> None:
    """Wait for a condition; raise when the process ends or the time is over."""
    until = time.monotonic() + within
    while not is_so():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{process.args!r} did not get ready; its log is in the run's folder, see --keep")
        time.sleep(0.05)


@contextlib.contextmanager
def machine(
    folder: Path, revisions: dict[str, dict[str, str]], *, kafka: str | None, **options: Any
) -> Iterator[Machine]:
    """Start what a run needs. `kafka`: host:port of a broker to be used instead of the embedded one."""
    with contextlib.ExitStack() as running:
        with pinned(SERVERS):
            redis_server = running.enter_context(EmbeddedRedis(folder))
            address = kafka or running.enter_context(EmbeddedKafka(folder)).address
        yield Machine(folder, address, redis_server.url, revisions, **options)


@contextlib.contextmanager
def whole_system(here: Machine) -> Iterator[dict[str, "tuple[str, subprocess.Popen[bytes]]"]]:
    """Every service, by its name: base URL and process. The HTTP services share the subject's core."""
    with contextlib.ExitStack() as running:
        cores = {"api": SUBJECT, "gateway": SUBJECT, "worker": SERVERS, "indexer": SERVERS}
        yield {name: running.enter_context(here.service(name, core)) for name, core in cores.items()}


def demo(here: Machine, gateway: str, api: str) -> dict[str, str]:
    """Make the demo account and subscribe its audience; returns the account and an API key."""
    return Demo(gateway, api, here.environment["AUDIENCE_ADMIN_TOKEN"]).make()
