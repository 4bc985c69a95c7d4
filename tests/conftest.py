"""Servers that tests of more than one folder use: real ones, private, on loopback."""

import os
from collections.abc import Iterator

import hypothesis
import pytest
import redis

from audience_stream.embedded import EmbeddedKafka, EmbeddedRedis

# every test has a time limit already; one for each example fails by chance where the machine is busy
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis that belongs to this test session alone."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """URL of an empty Redis."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of an embedded Kafka of this test session, or of the one that AUDIENCE_TEST_KAFKA names."""
    named = os.environ.get("AUDIENCE_TEST_KAFKA")
    if named:
        yield named
        return
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server.address


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the fault suite writes what each fault has cost, a JSON object a line."""
    parser.addoption("--fault-report", metavar="FILE", help="append the outcome of each injected fault to FILE")
