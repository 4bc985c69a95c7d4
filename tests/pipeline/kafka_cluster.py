"""Apache Kafka out of Maven's artifacts: one node, or several, each with both roles of KRaft."""

import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from audience_stream.embedded import free_port

POM = Path(__file__).parent / "apache-kafka" / "pom.xml"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "audience-stream" / "apache-kafka-4.2.0"
_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
_START_S = 90.0


def artifacts() -> str:
    """Class path of Apache Kafka; copied by Maven on first use."""
    libs = CACHE / "libs"
    if not libs.is_dir():
        made = CACHE / f"libs-{uuid.uuid4().hex}"
        copy = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={made}"]
        subprocess.run(copy, check=True, timeout=600)
        try:
            made.rename(libs)
        except OSError:
            if not libs.is_dir():  # else another run was faster
                raise
            shutil.rmtree(made)
    return f"{libs}/*"


class Node:
    """One broker that is a controller too."""

    def __init__(self, folder: Path, number: int, ports: dict[int, tuple[int, int]]) -> None:
        self._number = number
        self._log = folder / f"kafka-{number}.log"
        self._config = folder / f"server-{number}.properties"
        self._process: subprocess.Popen[bytes] | None = None
        port, controller = ports[number]
        self.address = f"127.0.0.1:{port}"
        voters = ",".join(f"{node}@127.0.0.1:{theirs}" for node, (_, theirs) in ports.items())
        copies, in_sync = min(3, len(ports)), max(1, min(3, len(ports)) - 1)
        lines = [
            "process.roles=broker,controller",
            f"node.id={number}",
            f"controller.quorum.voters={voters}",
            "controller.listener.names=CONTROLLER",
            f"listeners=PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}",
            f"advertised.listeners=PLAINTEXT://{self.address}",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            f"log.dirs={folder / f'logs-{number}'}",
            f"offsets.topic.replication.factor={copies}",
            f"transaction.state.log.replication.factor={copies}",
            f"transaction.state.log.min.isr={in_sync}",
            "auto.create.topics.enable=false",
            # tests wait for what happens after a member or a broker is gone: let it be noticed within seconds
            "offsets.topic.num.partitions=4",
            "group.initial.rebalance.delay.ms=0",
            "group.min.session.timeout.ms=1000",
            "group.consumer.min.session.timeout.ms=1000",
            "group.consumer.session.timeout.ms=3000",
            "group.consumer.min.heartbeat.interval.ms=500",
            "group.consumer.heartbeat.interval.ms=500",
            "broker.session.timeout.ms=3000",
            "broker.heartbeat.interval.ms=500",
        ]
        self._config.write_text("\n".join(lines))

    @property
    def _java(self) -> list[str]:
        return ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", artifacts()]

    @property
    def running(self) -> bool:
        """Whether it was started and not ended since."""
        return self._process is not None

    def format(self) -> None:
        """Make the node's storage."""
        command = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(self._config)]
        subprocess.run([*self._java, *command], check=True, capture_output=True, timeout=60)

    def start(self) -> None:
        """Start the process; `wait` says when it answers."""
        with self._log.open("ab") as log:
            command = [*self._java, "kafka.Kafka", str(self._config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def wait(self, brokers: int) -> None:
        """Wait until the node answers and knows of so many brokers."""
        client = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        until = time.monotonic() + _START_S
        while True:
            try:
                if len(client.list_topics(timeout=1).brokers) >= brokers:
                    return
            except KafkaException:
                pass
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > until:
                raise RuntimeError(f"Apache Kafka did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it stand still, as a machine that swaps; `thaw` ends that."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "it was not started"
        self._process.send_signal(number)

    def stop(self) -> None:
        """Shut it down in order."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None


def _in_sync(client: AdminClient) -> bool:
    """Whether every replica of every partition is in sync: only then may the next broker go."""
    try:
        topics = client.list_topics(timeout=5).topics.values()
    except KafkaException:
        return False
    return all(len(p.isrs) == len(p.replicas) for topic in topics for p in topic.partitions.values())


class KafkaCluster:
    """Apache Kafka with some nodes."""

    def __init__(self, folder: Path, nodes: int) -> None:
        ports = {number: (free_port(), free_port()) for number in range(1, nodes + 1)}
        self.nodes = [Node(folder, number, ports) for number in ports]
        self.address = ",".join(node.address for node in self.nodes)

    def start(self) -> None:
        """Start every node for the first time."""
        for node in self.nodes:
            node.format()
        self.start_again()

    def start_again(self) -> None:
        """Start every node that is not running, and wait until each has all that the others have."""
        for node in self.nodes:
            if not node.running:
                node.start()
        for node in self.nodes:
            node.wait(len(self.nodes))
        until = time.monotonic() + _START_S
        for node in self.nodes:  # each shows what it knows itself
            client = AdminClient({"bootstrap.servers": node.address, "log_level": 0})
            while not _in_sync(client):
                if time.monotonic() > until:
                    raise RuntimeError(f"the broker at {node.address} does not catch up")
                time.sleep(0.1)

    def stop(self) -> None:
        """Shut everything down. A quorum loses its majority on the way, so the last ones are not waited for."""
        first, *rest = self.nodes
        first.stop()
        for node in rest:
            node.kill()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
