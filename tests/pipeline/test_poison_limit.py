"""Too much poison stops a running worker: throwing a whole stream away record by record would be worse."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from confluent_kafka import Producer

from audience_core.codec import Codec
from audience_core.domain.records import AudienceChange, MembershipChange
from audience_core.kafka.admin import TopicAdmin
from audience_core.redis import keys
from audience_core.settings import CoreSettings
from audience_core.topics import CHANGES
from audience_stream.dlq import read
from audience_stream.embedded import EmbeddedKafka
from tests.pipeline.running import eventually


@pytest.fixture
def environment(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Servers of this test's own, with one shard."""
    with EmbeddedKafka(tmp_path) as kafka:
        settings = {
            "AUDIENCE_KAFKA_BOOTSTRAP_SERVERS": kafka.address,
            "AUDIENCE_KAFKA_REPLICATION": "1",
            "AUDIENCE_KAFKA_SESSION_TIMEOUT": "2s",
            "AUDIENCE_REDIS_URL": redis_url,
            "AUDIENCE_SHARDS": "1",
            "AUDIENCE_METRICS_PORT": "0",
            "AUDIENCE_POISON_RATIO": "0.2",
            "AUDIENCE_POISON_WINDOW": "200",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        TopicAdmin(CoreSettings()).create_missing()
        yield {**os.environ}


def produce(address: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": address})
    for value in values:
        producer.produce(CHANGES, value, b"", partition=0)
    assert producer.flush(20) == 0


def good(number: int) -> bytes:
    now = time.time_ns() // 1_000_000
    change = AudienceChange(audience_id=7, epoch=0, action="ENTER")
    record = MembershipChange(
        account="demo",
        mpid=str(number),
        occurred_at=now,
        received_at=now,
        request_id="r",
        identities=[],
        changes=[change],
    )
    return Codec().encode("MembershipChange", record)


def start_worker(environment: dict[str, str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "audience_stream", "worker"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.timeout(120)
def test_a_worker_goes_on_over_a_little_poison_and_stops_at_too_much_with_its_offset_before_it(
    environment: dict[str, str], redis_url: str
) -> None:
    address = environment["AUDIENCE_KAFKA_BOOTSTRAP_SERVERS"]
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    worker = start_worker(environment)
    try:
        produce(address, [b"poison" if number % 10 == 0 else good(number) for number in range(200)])
        eventually(lambda: client.hget(keys.counts(0), "demo:7"), 30, "180")
        assert worker.poll() is None
        before = client.hget(keys.offset(0), "offset")
        produce(address, [b"poison"] * 150)
        said = worker.communicate(timeout=60)[1]
    finally:
        worker.kill()
    assert worker.returncode == 1
    assert "PoisonLimitExceeded" in said
    assert "dlq list" in said
    stopped_at = int(client.hget(keys.offset(0), "offset") or 0)
    assert int(before or 0) <= stopped_at < 350
    # it stops again as long as nobody has done anything about it, and nothing is thrown away meanwhile
    again = start_worker(environment)
    assert again.communicate(timeout=60)[1].count("PoisonLimitExceeded") == 1
    assert again.returncode == 1
    assert int(client.hget(keys.offset(0), "offset") or 0) < 350
    # raising the limit lets it on: every poison record is a dead letter, every good one is applied
    environment["AUDIENCE_POISON_RATIO"] = "1"
    forced = start_worker(environment)
    try:
        produce(address, [good(200)])
        eventually(lambda: client.hget(keys.counts(0), "demo:7"), 30, "181")
    finally:
        forced.terminate()
        forced.communicate(timeout=30)
    client.close()
    offsets = {letter["offset"] for _, _, letter in read(CoreSettings())}
    assert offsets == {*range(0, 200, 10), *range(200, 350)}
