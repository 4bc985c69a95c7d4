"""Workers that are stopped as Kubernetes stops pods, under load, on a real Apache Kafka.

`make test-kafka` runs it: how long a group takes to hand its shards on is the broker's own doing.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis
from pydantic import SecretStr

from audience_core.kafka.admin import TopicAdmin
from audience_core.redis import keys
from audience_core.settings import CoreSettings
from audience_core.topics import CHANGES
from audience_stream.embedded import free_port
from tests.deploy.load import ACCOUNT, AUDIENCE, Load
from tests.pipeline.apache_kafka import apache_kafka
from tests.pipeline.running import eventually

pytestmark = pytest.mark.skipif(
    os.environ.get("AUDIENCE_TEST_ON") != "apache-kafka", reason="needs an Apache Kafka: make test-kafka"
)
GRACE_S = 30  # terminationGracePeriodSeconds of deploy/kubernetes/base/worker.yaml
SESSION_S = 10
SHARDS = 64
RATE = 500


class Pod:
    """A worker process, started and stopped in Kubernetes' order."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.port = free_port()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "audience_stream", "worker"],
                env=environment | {"AUDIENCE_METRICS_PORT": str(self.port)},
                stderr=output,
            )

    def ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def terminate(self) -> int:
        """SIGTERM, the grace period, then SIGKILL; return the exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        self._process.kill()
        return self._process.wait()


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[dict[str, str]]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
    with apache_kafka(tmp_path_factory.mktemp("kafka")) as address:
        yield inherited | {
            "AUDIENCE_KAFKA_BOOTSTRAP_SERVERS": address,
            "AUDIENCE_KAFKA_REPLICATION": "1",
            "AUDIENCE_KAFKA_SESSION_TIMEOUT": f"{SESSION_S}s",
            "AUDIENCE_SHARDS": str(SHARDS),
            "AUDIENCE_REDIS_URL": redis_url,
            "AUDIENCE_HOST": "127.0.0.1",
        }


def command(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "audience_stream", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.timeout(300)
def test_workers_come_and_go_under_load_without_a_pause_over_three_seconds_and_nothing_is_lost(
    environment: dict[str, str], redis_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    created = command(environment, "topics", "create")
    assert created.returncode == 0, created.stderr
    log = tmp_path / "workers.log"
    pods = [Pod(environment, log), Pod(environment, log)]
    pauses: dict[str, float] = {}

    def start() -> None:
        pods.append(Pod(environment, log))
        eventually(pods[-1].ready, 30)

    settings = CoreSettings(
        kafka_bootstrap_servers=environment["AUDIENCE_KAFKA_BOOTSTRAP_SERVERS"],
        redis_url=SecretStr(redis_url),
        shards=SHARDS,
    )
    load = Load(settings, RATE)
    try:
        for pod in pods:
            eventually(pod.ready, 30)
        with load.running():

            def pause_of(what: str) -> None:
                time.sleep(4)  # what was held up becomes visible
                pauses[what] = round(load.longest(), 2)

            time.sleep(5)
            load.longest()
            time.sleep(3)
            pause_of("steady")
            for n in (1, 2):
                start()
                pause_of(f"joining {n}")
                assert pods.pop(0).terminate() == 0, log.read_text()[-2000:]
                pause_of(f"SIGTERM {n}")
            pods.pop(0).kill()
            time.sleep(SESSION_S)
            pause_of("SIGKILL")
    finally:
        for pod in pods:
            pod.kill()
    print(pauses)  # noqa: T201
    record_property("pauses", pauses)
    assert load.seen == load.published > 0
    admin = TopicAdmin(settings)
    assert sum(admin.ends(CHANGES, list(range(SHARDS))).values()) == load.published
    with redis.Redis.from_url(redis_url) as client:
        counted = sum(int(client.hget(keys.counts(n), f"{ACCOUNT}:{AUDIENCE}") or 0) for n in range(SHARDS))
    assert counted == load.published, "every change was counted once"
    assert pauses.pop("SIGKILL") <= SESSION_S + 3, "without a word, a worker is missed when its session ends"
    assert max(pauses.values()) <= 3, pauses
