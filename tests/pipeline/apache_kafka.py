"""A real Apache Kafka for the tests: one that is named, one in Docker, or one from Maven's artifacts."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

POM = Path(__file__).parent / "apache-kafka" / "pom.xml"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "audience-stream" / "apache-kafka-4.2.0"
HOW = (
    "no Apache Kafka: set AUDIENCE_TEST_KAFKA=host:port of one, start Docker, or install Java 17+ and Maven "
    "(for instance `apt-get install openjdk-17-jre-headless maven`)"
)


@contextlib.contextmanager
def apache_kafka(folder: Path) -> Iterator[str]:
    """Yield the bootstrap address of an Apache Kafka. Raises RuntimeError that says how to get one."""
    if named := os.environ.get("AUDIENCE_TEST_KAFKA"):
        yield named
    elif _docker_answers():
        from testcontainers.kafka import KafkaContainer

        with KafkaContainer("apache/kafka:4.2.0") as container:
            yield str(container.get_bootstrap_server())
    elif shutil.which("java") and shutil.which("mvn"):
        with _from_maven(folder) as address:
            yield address
    else:
        raise RuntimeError(HOW)


def _docker_answers() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _artifacts() -> str:
    libs = CACHE / "libs"
    if not libs.is_dir():
        made = CACHE / f"libs-{uuid.uuid4().hex}"
        copy = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={made}"]
        subprocess.run(copy, check=True, timeout=600)
        made.rename(libs)
    return f"{libs}/*"


@contextlib.contextmanager
def _from_maven(folder: Path) -> Iterator[str]:
    classpath, port, controller = _artifacts(), _free_port(), _free_port()
    config = folder / "server.properties"
    config.write_text(
        "\n".join(
            [
                "process.roles=broker,controller",
                "node.id=1",
                f"controller.quorum.voters=1@127.0.0.1:{controller}",
                "controller.listener.names=CONTROLLER",
                f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
                f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}",
                "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
                f"log.dirs={folder / 'logs'}",
                "offsets.topic.replication.factor=1",
                "transaction.state.log.replication.factor=1",
                "transaction.state.log.min.isr=1",
                "group.initial.rebalance.delay.ms=0",
                "auto.create.topics.enable=false",
            ]
        )
    )
    java = ["java", "-Xmx768m", "-cp", classpath]
    cluster = "MkU3OEVBNTcwNTJENDM2Qg"
    storage = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config)]
    subprocess.run([*java, *storage], check=True, capture_output=True, timeout=60)
    with (folder / "kafka.log").open("wb") as log:
        process = subprocess.Popen([*java, "kafka.Kafka", str(config)], stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait(f"127.0.0.1:{port}", process, folder / "kafka.log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _wait(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    client = AdminClient({"bootstrap.servers": address, "log_level": 0})
    until = time.monotonic() + 60
    while True:
        try:
            client.list_topics(timeout=1)
        except KafkaException:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"Apache Kafka did not start:\n{log.read_text()[-2000:]}") from None
        else:
            return
