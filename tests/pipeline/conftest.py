"""The whole system as `audience-stream up` starts it, once for all tests of this folder."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.pipeline.apache_kafka import apache_kafka
from tests.pipeline.running import Stack


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Settings that name servers of the tests' own; none, and `up` starts its embedded ones.

    `make test-kafka` sets AUDIENCE_TEST_ON=apache-kafka: the same tests on a real Apache Kafka.
    """
    if os.environ.get("AUDIENCE_TEST_ON") != "apache-kafka":
        yield {}
        return
    with apache_kafka(tmp_path_factory.mktemp("kafka")) as address:
        yield {
            "AUDIENCE_KAFKA_BOOTSTRAP_SERVERS": address,
            "AUDIENCE_KAFKA_REPLICATION": "1",
            "AUDIENCE_KAFKA_SESSION_TIMEOUT": "6s",
            "AUDIENCE_SHARDS": "8",
        }


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, servers: dict[str, str]) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    ready_file, log = folder / "ready.json", folder / "up.log"
    ports = dict.fromkeys(("AUDIENCE_GATEWAY_PORT", "AUDIENCE_API_PORT", "AUDIENCE_METRICS_PORT"), "0")
    deadlines = {"AUDIENCE_LOG_LEVEL": "debug", "AUDIENCE_HEADER_TIMEOUT": "2s", "AUDIENCE_REQUEST_TIMEOUT": "3s"}
    watching = {"AUDIENCE_INDEXER_MEASURE_EVERY": "200ms", "AUDIENCE_INDEXER_COMPARE_EVERY": "1s"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "audience_stream", "up", "--ready-file", str(ready_file)],
            env={**inherited, **ports, **deadlines, **watching, **servers},
            stdout=subprocess.DEVNULL,  # it announces the secrets to the person at the terminal
            stderr=output,
        )
        try:
            until = time.monotonic() + 60
            while not ready_file.exists():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
            running = Stack(json.loads(ready_file.read_text()), process, log)
            with running.http:
                yield running
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
