"""`audience-stream status`, and what a worker tells, while an emptied Redis is filled again from the log."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from audience_core.codec import Codec
from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.kafka.admin import TopicAdmin
from audience_core.redis import keys
from audience_core.settings import CoreSettings
from audience_core.topics import CHANGES
from audience_stream.backlog import Backlog, ShardBacklog
from audience_stream.embedded import EmbeddedKafka
from membership_worker.catching_up import NEAR
from tests.pipeline.running import eventually

SHARDS = 4
RECORDS = 20_000
CAUGHT_UP, BEHIND, UNREACHABLE = 0, 1, 2


@pytest.fixture
def environment(redis_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings of a system of the test's own."""
    with EmbeddedKafka(tmp_path) as server:
        settings = {
            "AUDIENCE_REDIS_URL": redis_url,
            "AUDIENCE_KAFKA_BOOTSTRAP_SERVERS": server.address,
            "AUDIENCE_KAFKA_REPLICATION": "1",
            "AUDIENCE_KAFKA_SESSION_TIMEOUT": "6s",
            "AUDIENCE_SHARDS": str(SHARDS),
        }
        given = {name.removeprefix("AUDIENCE_").lower(): value for name, value in settings.items()}
        TopicAdmin(CoreSettings(**given)).create_missing()
        yield settings


def publish(bootstrap: str) -> None:
    """Two changes for each of as many visitors."""
    producer = Producer({"bootstrap.servers": bootstrap})
    now = time.time_ns() // 1_000_000 - 60_000
    writer = Codec().changes_of("demo", now, now, "request-1")
    for number in range(RECORDS):
        key = visitor_key("demo", f"v-{number}")
        value = writer.write(f"v-{number}".encode(), (), [(1, 0, "ENTER"), (2, 0, "ENTER")])
        producer.produce(CHANGES, value, key, partition=shard_of(key, SHARDS), timestamp=now)
    assert producer.flush(20) == 0


STATUS = [sys.executable, "-m", "audience_stream", "status"]


def command(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*STATUS, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextlib.contextmanager
def watching(environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """`status --watch` on its way."""
    arguments = [*STATUS, "--json", "--watch", "--interval", "0.2"]
    with subprocess.Popen(
        arguments, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class RunningWorker:
    """A worker, and what it tells."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self._log = log

    def told(self, event: str) -> list[dict[str, Any]]:
        lines = self._log.read_text().splitlines(keepends=True)
        told = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
        return [line for line in told if line["event"] == event]

    def metric(self, name: str) -> float:
        url = f"http://127.0.0.1:{self.told('worker_started')[0]['port']}/metrics"
        text = httpx.get(url, trust_env=False, timeout=5).text
        [value] = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        ]
        return value


@contextlib.contextmanager
def working(environment: dict[str, str], folder: Path) -> Iterator[RunningWorker]:
    """Run a worker that goes record by record: a rebuild takes it seconds."""
    log = folder / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "audience_stream", "worker"],
            env={**os.environ, **environment, "AUDIENCE_WORKER_BATCH": "1", "AUDIENCE_METRICS_PORT": "0"},
            stderr=output,
        )
        try:
            yield RunningWorker(process, log)
        finally:
            process.terminate()
            process.wait(30)


def test_an_empty_redis_is_told_as_behind_then_as_caught_up_by_status_log_and_metrics(
    environment: dict[str, str], tmp_path: Path
) -> None:
    publish(environment["AUDIENCE_KAFKA_BOOTSTRAP_SERVERS"])
    with watching(environment) as watch:
        assert watch.stdout is not None
        lines = [json.loads(watch.stdout.readline())]
        with working(environment, tmp_path) as worker:
            eventually(lambda: bool(worker.told("worker_started")), 20)
            eventually(lambda: worker.metric("audience_worker_left_records") > 0, 30)
            eventually(lambda: 0 < worker.metric("audience_worker_left_seconds") < float("inf"), 20)
            lines += [json.loads(line) for line in watch.stdout]
            assert watch.wait(10) == CAUGHT_UP
            eventually(lambda: bool(worker.told("caught_up")), 5)
            eventually(lambda: worker.metric("audience_worker_left_records"), 5, 0)
            assert worker.metric("audience_worker_left_seconds") == 0
    assert (lines[0]["state"], lines[0]["behind"], lines[0]["applied_share"]) == ("empty", RECORDS, 0)
    assert [shard["stored"] for shard in lines[0]["shards"]] == [None] * SHARDS
    under_way = [line for line in lines if line["state"] == "catching_up" and line["eta_seconds"]]
    assert under_way, lines
    assert all(line["records_per_second"] > 0 for line in under_way)
    assert (lines[-1]["state"], lines[-1]["behind"], lines[-1]["applied_share"]) == ("caught_up", 0, 1)
    assert [shard["stored"] for shard in lines[-1]["shards"]] == [shard["end"] for shard in lines[-1]["shards"]]
    assert worker.told("catching_up")[0]["left"] > 0
    (end,) = worker.told("caught_up")
    assert RECORDS - NEAR < end["records"] <= RECORDS
    assert end["changes"] == 2 * end["records"]
    for_people = command(environment)
    assert for_people.returncode == CAUGHT_UP
    assert "caught up · 0 records behind · 100.0% of the log applied" in for_people.stdout


def test_a_redis_that_is_behind_while_no_worker_runs_stands_still(environment: dict[str, str]) -> None:
    publish(environment["AUDIENCE_KAFKA_BOOTSTRAP_SERVERS"])
    with redis.Redis.from_url(environment["AUDIENCE_REDIS_URL"]) as client:
        client.hset(keys.offset(2), mapping={"topic": "any", "offset": 1000})
    answer = command(environment, "--json", "--interval", "0.1")
    assert answer.returncode == BEHIND, answer.stderr
    seen = json.loads(answer.stdout)
    assert (seen["state"], seen["records_per_second"], seen["eta_seconds"]) == ("standing_still", 0, None)
    assert (seen["behind"], seen["applied_share"]) == (RECORDS - 1000, 1000 / RECORDS)
    assert 60 < seen["seconds"] < 120
    shard = seen["shards"][2]
    assert (shard["stored"], shard["end"] - shard["behind"]) == (1000, 1000)


def test_a_watch_outlives_an_outage_of_redis(environment: dict[str, str]) -> None:
    publish(environment["AUDIENCE_KAFKA_BOOTSTRAP_SERVERS"])
    with redis.Redis.from_url(environment["AUDIENCE_REDIS_URL"]) as client, watching(environment) as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        first = json.loads(watch.stdout.readline())
        client.client_pause(2000)
        assert "trying again" in watch.stderr.readline()
        for shard in first["shards"]:
            client.hset(keys.offset(shard["shard"]), mapping={"topic": "any", "offset": shard["end"]})
        lines = [json.loads(line) for line in watch.stdout]
        assert watch.wait(10) == CAUGHT_UP
    assert [first["state"], lines[-1]["state"]] == ["empty", "caught_up"]


def backlog(*, stored: int | None = 400, behind: int = 600, seconds: float = 90, rate: float | None = 100) -> Backlog:
    """One shard of 1,000 records."""
    return Backlog([ShardBacklog(0, stored, 0, 1000, behind, seconds)], rate, None)


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (backlog(), "catching_up"),
        (backlog(rate=0), "standing_still"),
        (backlog(stored=None, behind=1000, rate=0), "empty"),
        (backlog(behind=0, seconds=0), "caught_up"),
        (backlog(behind=3, seconds=0.2), "caught_up"),  # what came just now is on its way
        (backlog(behind=3, seconds=1.2), "catching_up"),
    ],
)
def test_the_state_is_what_the_numbers_say(seen: Backlog, state: str) -> None:
    assert seen.state == state


def test_a_log_without_records_is_applied_whole() -> None:
    assert Backlog([ShardBacklog(0, None, 7, 7, 0, 0)], None, 0).applied_share == 1
    assert backlog().applied_share == 0.4


def test_an_empty_log_and_an_empty_redis_are_caught_up(environment: dict[str, str]) -> None:
    answer = command(environment, "--json")
    assert answer.returncode == CAUGHT_UP, answer.stderr
    assert json.loads(answer.stdout)["behind"] == 0


def test_a_kafka_or_a_redis_that_is_not_there_exits_with_2_and_one_line(redis_url: str, kafka_server: str) -> None:
    absent = {
        "AUDIENCE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "AUDIENCE_REDIS_URL": redis_url,
        "AUDIENCE_SHARDS": "1",
    }
    answer = command(absent)
    assert (answer.returncode, len(answer.stderr.splitlines())) == (UNREACHABLE, 1), answer.stderr
    assert "AUDIENCE_KAFKA_BOOTSTRAP_SERVERS" in answer.stderr
    present = {"AUDIENCE_KAFKA_BOOTSTRAP_SERVERS": kafka_server, "AUDIENCE_KAFKA_REPLICATION": "1"}
    present["AUDIENCE_SHARDS"] = "8"
    answer = command({**present, "AUDIENCE_REDIS_URL": "redis://127.0.0.1:1/0"})
    assert (answer.returncode, len(answer.stderr.splitlines())) == (UNREACHABLE, 1), answer.stderr
