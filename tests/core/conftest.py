"""Temporary: a private Redis until tests/conftest.py exists."""

import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
import redis


@pytest.fixture(scope="session")
def _server() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(  # noqa: S603
        ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"],  # noqa: S607
        stdout=subprocess.DEVNULL,
    )
    for _ in range(100):
        try:
            with redis.Redis(port=port) as client:
                client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait()


@pytest.fixture
def redis_url(_server: str) -> str:
    with redis.Redis.from_url(_server) as client:
        client.flushall()
    return _server
