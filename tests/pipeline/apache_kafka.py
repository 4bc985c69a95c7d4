"""A real Apache Kafka for the tests: one that is named, one in Docker, or one from Maven's artifacts."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.pipeline.kafka_cluster import KafkaCluster

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
        with KafkaCluster(folder, 1) as cluster:
            yield cluster.address
    else:
        raise RuntimeError(HOW)


def _docker_answers() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0
