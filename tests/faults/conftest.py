"""Real servers for the fault suite, and its report. Only `make test-faults` runs it."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.comparison import Outcome
from tests.faults.redis_servers import RedisServer
from tests.faults.system import System
from tests.pipeline.apache_kafka import HOW
from tests.pipeline.kafka_cluster import KafkaCluster

if os.environ.get("AUDIENCE_TEST_ON") != "apache-kafka":
    collect_ignore_glob = ["test_*.py"]

Make = Callable[..., System]


@dataclass
class Report:
    """Writes a line for each fault that was injected and what it has cost."""

    file: Path | None
    lines: list[dict[str, Any]] = field(default_factory=list)

    def add(self, fault: str, outcome: Outcome, *, changes: int, trials: int = 1) -> None:
        """Note the outcome; fail when anything was lost, came from nowhere or was counted wrongly."""
        numbers = {"lost": outcome.lost, "phantom": outcome.phantom, "drift": outcome.drift}
        line = {"fault": fault, "trials": trials, "changes": changes, **numbers}
        if self.file is not None:
            with self.file.open("a") as report:
                report.write(json.dumps(line) + "\n")
        assert not any(numbers.values()), (line, outcome.examples)


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    named = pytestconfig.getoption("--fault-report")
    return Report(Path(named) if named else None)


def _cluster(folder: Path, nodes: int) -> KafkaCluster:
    if not (shutil.which("java") and shutil.which("mvn")):
        pytest.fail(f"the fault suite kills brokers, so it starts its own: {HOW}")
    return KafkaCluster(folder, nodes)


@pytest.fixture(scope="session")
def one_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with _cluster(tmp_path_factory.mktemp("kafka"), 1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with _cluster(tmp_path_factory.mktemp("kafka-cluster"), 3) as cluster:
        yield cluster


@pytest.fixture
def redis_at(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_system(tmp_path: Path) -> Iterator[Make]:
    """Makes the system of a case on any Kafka and Redis, on fresh topics."""
    made: list[System] = []

    def make(kafka: KafkaCluster, redis: dict[str, str], client: Any, **environment: str) -> System:
        system = System(tmp_path, kafka.address, redis, client, **environment)
        made.append(system)
        return system

    yield make
    for system in made:
        system.close()


@pytest.fixture
def system(make_system: Make, one_node: KafkaCluster, redis_at: RedisServer) -> System:
    """A system on one node of Kafka and one Redis."""
    return make_system(one_node, {"AUDIENCE_REDIS_URL": redis_at.url}, redis_at.client)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failed case shows the end of each process's log."""
    outcome = yield
    result = outcome.get_result()  # type: ignore[attr-defined]
    if result.when == "call" and result.failed:
        folder = getattr(item, "funcargs", {}).get("tmp_path")
        for log in sorted(folder.glob("*.log")) if folder else ():
            result.sections.append((log.name, log.read_text("utf-8", "replace")[-3000:]))
