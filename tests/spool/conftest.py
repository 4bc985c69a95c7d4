"""A broker that tests may stop, and the system on it."""

import functools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest

from audience_stream.embedded import EmbeddedKafka
from tests.pipeline.kafka_cluster import KafkaCluster
from tests.pipeline.running import Stack
from tests.pipeline.starting import started

if os.environ.get("AUDIENCE_TEST_ON") != "apache-kafka":
    collect_ignore = ["test_outage.py"]  # a minute; `make test-kafka` runs it

StartStack = Callable[..., AbstractContextManager[Stack]]


class Broker(Protocol):
    """A Kafka of the tests' own."""

    address: str

    def away(self) -> None:
        """Let it answer nobody."""

    def back(self) -> None:
        """Let it answer again, with all that it had acknowledged."""


class KilledBroker:
    """Apache Kafka: killed, and started again on its log."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self._cluster = cluster
        self.address = cluster.address

    def away(self) -> None:
        self._cluster.nodes[0].kill()

    def back(self) -> None:
        self._cluster.start_again()


class FrozenBroker:
    """The embedded broker keeps everything in memory, so it is frozen instead."""

    def __init__(self, server: EmbeddedKafka) -> None:
        self._server = server
        self.address = server.address

    def away(self) -> None:
        self._signal(signal.SIGSTOP)

    def back(self) -> None:
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill it: who was frozen takes seconds over a stop, and nothing is to be kept."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        assert self._server._process is not None  # noqa: SLF001 - a test stops it as no user would
        self._server._process.send_signal(number)  # noqa: SLF001


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """An empty one for each test: what another test left in the log would be applied to the new Redis."""
    folder = tmp_path_factory.mktemp("kafka")
    if os.environ.get("AUDIENCE_TEST_ON") == "apache-kafka":
        with KafkaCluster(folder, 1) as cluster:
            yield KilledBroker(cluster)
        return
    with EmbeddedKafka(folder) as server:
        frozen = FrozenBroker(server)
        try:
            yield frozen
        finally:
            frozen.end()


@pytest.fixture
def start_stack(broker: Broker, tmp_path: Path) -> StartStack:
    """Start the system on the broker, with further settings."""

    kafka = {"AUDIENCE_KAFKA_BOOTSTRAP_SERVERS": broker.address, "AUDIENCE_KAFKA_REPLICATION": "1"}
    return functools.partial(started, tmp_path, AUDIENCE_SHARDS="8", **kafka)
