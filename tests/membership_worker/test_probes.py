"""The probes of a worker process while what it needs comes and goes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from audience_core.codec import Codec
from audience_core.domain.records import VisitorErased
from audience_core.kafka.producer import Outgoing, RecordProducer
from audience_core.settings import CoreSettings
from audience_core.topics import CHANGES
from audience_stream.embedded import EmbeddedRedis, free_port
from tests.pipeline.running import eventually


class Probes:
    """A worker's probes; a worker counts as stuck after one second."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.port = free_port()
        self.kafka = environment["AUDIENCE_KAFKA_BOOTSTRAP_SERVERS"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "audience_stream", "worker"],
            env=inherited | environment | {"AUDIENCE_HOST": "127.0.0.1", "AUDIENCE_METRICS_PORT": str(self.port)},
            stderr=subprocess.DEVNULL,
        )

    def ask(self, path: str) -> tuple[int, list[str]]:
        """(status, what is missing); (0, []) before the port is open."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False, timeout=5)
        except httpx.HTTPError:
            return 0, []
        missing: list[str] = answer.json()["missing"]
        return answer.status_code, missing

    def readiness(self) -> int:
        return self.ask("/readyz")[0]

    def stays_alive(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.ask("/livez")[0] != 200:
                return False
            time.sleep(0.2)
        return True


def give_it_work(kafka: str) -> None:
    """Publish one record to the changes topic."""
    record = VisitorErased(account="probes", mpid="1", received_at=time.time_ns() // 1_000_000, request_id="r")
    producer = RecordProducer(CoreSettings(kafka_bootstrap_servers=kafka), "test")
    producer.send_and_wait([Outgoing(CHANGES, 0, b"probes:1", Codec().encode("VisitorErased", record))], 10)
    producer.close()


@pytest.fixture
def redis_of_its_own(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis that is not started yet."""
    server = EmbeddedRedis(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def worker(kafka_server: str, redis_of_its_own: EmbeddedRedis) -> Iterator[Probes]:
    environment: dict[str, Any] = {
        "AUDIENCE_KAFKA_BOOTSTRAP_SERVERS": kafka_server,
        "AUDIENCE_KAFKA_REPLICATION": "1",
        "AUDIENCE_KAFKA_SESSION_TIMEOUT": "2s",
        "AUDIENCE_SHARDS": "8",
        "AUDIENCE_REDIS_URL": redis_of_its_own.url,
        "AUDIENCE_REDIS_TIMEOUT": "300ms",
        "AUDIENCE_WORKER_GROUP": f"probes-{free_port()}",
        "AUDIENCE_WORKER_STUCK_AFTER": "1s",
    }
    created = [sys.executable, "-m", "audience_stream", "topics", "create"]
    subprocess.run(created, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)
    probes = Probes(environment)
    yield probes
    probes.process.kill()
    probes.process.wait()


def test_a_redis_that_comes_late_or_goes_makes_a_worker_unready_never_dead(
    worker: Probes, redis_of_its_own: EmbeddedRedis
) -> None:
    eventually(worker.readiness, 20, 503)
    eventually(lambda: "Redis" in "".join(worker.ask("/readyz")[1]), 5)
    assert worker.stays_alive(3), "longer than a worker may stand still"
    redis_of_its_own.start()
    eventually(worker.readiness, 20, 200)
    assert worker.stays_alive(3)
    redis_of_its_own.stop()
    give_it_work(worker.kafka)
    eventually(worker.readiness, 10, 503)
    assert worker.stays_alive(3)
    redis_of_its_own.start()
    eventually(worker.readiness, 20, 200)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(20) == 0
