"""The whole system as `audience-stream up` starts it, once for all tests of this folder."""

import os
from collections.abc import Iterator

import pytest

from tests.pipeline.apache_kafka import apache_kafka
from tests.pipeline.running import Stack
from tests.pipeline.starting import started


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
    deadlines = {"AUDIENCE_LOG_LEVEL": "debug", "AUDIENCE_HEADER_TIMEOUT": "2s", "AUDIENCE_REQUEST_TIMEOUT": "3s"}
    watching = {"AUDIENCE_INDEXER_MEASURE_EVERY": "200ms", "AUDIENCE_INDEXER_COMPARE_EVERY": "1s"}
    with started(tmp_path_factory.mktemp("stack"), **deadlines, **watching, **servers) as running:
        yield running
