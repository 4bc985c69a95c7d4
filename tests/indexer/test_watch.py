"""What the indexer measures of shards and of Redis, on real servers."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from confluent_kafka import Producer
from prometheus_client import REGISTRY

from audience_core.kafka.admin import TopicAdmin
from audience_core.kafka.lag import make_lag_consumer
from audience_core.observability import metrics
from audience_core.redis import keys
from audience_core.redis.connect import connect
from audience_core.redis.shard_store import ShardStore
from audience_core.redis.usage import usage
from audience_core.settings import load
from audience_core.topics import CHANGES
from audience_indexer.settings import IndexerSettings
from audience_indexer.watch import Watch
from audience_stream.embedded import EmbeddedRedis, free_port
from tests.pipeline.running import eventually

SHARDS = 8
EMPTY = 2
"""a shard without any record"""


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, redis_url: str, kafka_server: str) -> IndexerSettings:
    monkeypatch.setenv("AUDIENCE_REDIS_URL", redis_url)
    monkeypatch.setenv("AUDIENCE_KAFKA_BOOTSTRAP_SERVERS", kafka_server)
    monkeypatch.setenv("AUDIENCE_KAFKA_REPLICATION", "1")
    monkeypatch.setenv("AUDIENCE_SHARDS", str(SHARDS))
    monkeypatch.setenv("AUDIENCE_INDEXER_MEASURE_EVERY", "50ms")
    return load(IndexerSettings)


@contextlib.contextmanager
def watching(settings: IndexerSettings) -> Iterator[Watch]:
    TopicAdmin(settings).create_missing()
    for gauge in (*metrics.SHARD_GAUGES, *metrics.REDIS_GAUGES):
        gauge.clear()
    client, consumer = connect(settings), make_lag_consumer(settings, "indexer-watch")
    try:
        yield Watch(settings, consumer=consumer, client=client, store=ShardStore(client, settings))
    finally:
        consumer.close()
        client.close()


def turn(watch: Watch) -> None:
    """One turn of its loop."""
    answers = iter([False])
    watch.run(lambda: next(answers, True))


def shard_value(name: str, shard: int) -> float | None:
    return REGISTRY.get_sample_value(f"audience_shard_{name}", {"shard": str(shard)})


def store(redis_url: str, shard: int, offset: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keys.offset(shard), mapping={"topic": "any", "offset": offset})


def test_the_lag_is_the_age_of_the_first_record_that_is_not_applied(settings: IndexerSettings, redis_url: str) -> None:
    with watching(settings) as watch:
        producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
        now = time.time()
        ends: dict[int, int] = {}
        for shard, ages in ((0, (300, 200, 100)), (1, (50,))):
            for age in ages:
                producer.produce(
                    CHANGES,
                    b"x",
                    partition=shard,
                    timestamp=int((now - age) * 1000),
                    on_delivery=lambda _, message: ends.update({message.partition() or 0: (message.offset() or 0) + 1}),
                )
            assert producer.flush(10) == 0
        store(redis_url, 0, ends[0] - 2)
        store(redis_url, 1, ends[1])
        watch.measure_shards()
    assert shard_value("lag_records", 0) == 2
    assert shard_value("lag_seconds", 0) == pytest.approx(200, abs=20)
    assert shard_value("stored_offset", 0) == ends[0] - 2
    assert (shard_value("lag_records", 1), shard_value("lag_seconds", 1)) == (0, 0)
    assert (shard_value("lag_records", EMPTY), shard_value("lag_seconds", EMPTY)) == (0, 0)


def test_a_redis_that_does_not_tell_how_full_it_is_hides_no_lag(settings: IndexerSettings, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as admin:
        admin.acl_setuser("blind", enabled=True, nopass=True, keys="*", commands=["+@all", "-info"])
    blind = settings.model_copy(update={"redis_url": type(settings.redis_url)(redis_url.replace("//", "//blind:x@"))})
    with watching(blind) as watch:
        turn(watch)
    assert shard_value("lag_seconds", EMPTY) == 0
    assert REGISTRY.get_sample_value("audience_redis_memory_bytes", {"node": "redis"}) is None


def test_what_can_not_be_measured_any_more_has_no_value(settings: IndexerSettings, tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        own = settings.model_copy(update={"redis_url": type(settings.redis_url)(server.url)})
        with watching(own) as watch:
            watch.measure_redis()
            watch.measure_shards()
            assert shard_value("lag_seconds", EMPTY) == 0
            assert (REGISTRY.get_sample_value("audience_redis_memory_bytes", {"node": "redis"}) or 0) > 0
            server.stop()
            turn(watch)
    assert shard_value("lag_seconds", EMPTY) is None
    assert REGISTRY.get_sample_value("audience_redis_memory_bytes", {"node": "redis"}) is None


def test_every_node_of_a_cluster_tells_how_full_it_is(settings: IndexerSettings, tmp_path: Path) -> None:
    with cluster_node(tmp_path, (0, 8191)) as (port, _), cluster_node(tmp_path, (8192, 16383)) as (other, bus):
        with redis.Redis(port=port, decode_responses=True) as client:
            client.execute_command("CLUSTER MEET", "127.0.0.1", other, bus)
            eventually(lambda: client.execute_command("CLUSTER INFO")["cluster_state"], 20, "ok")
        url = type(settings.redis_url)(f"redis://127.0.0.1:{port}")
        cluster: Any = connect(settings.model_copy(update={"redis_url": url, "redis_mode": "cluster"}))
        used = usage(cluster)
        cluster.close()
        for node in cluster.get_nodes():  # redis-py leaves its connections open
            node.redis_connection.connection_pool.disconnect()
    assert {int(node.rpartition(":")[2]) for node in used} == {port, other}
    assert all(0 < one.memory < one.limit for one in used.values())


@contextlib.contextmanager
def cluster_node(folder: Path, slots: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """A Redis in cluster mode that has these slots; yields its port and the one for other nodes."""
    port, bus = free_port(), free_port()
    own = folder / str(port)
    own.mkdir()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(own), "--cluster-enabled", "yes"]
    options += ["--cluster-port", str(bus)]
    process = subprocess.Popen([EmbeddedRedis.binary(), *options], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            eventually(lambda: answers(client), 20)
            client.execute_command("CLUSTER ADDSLOTSRANGE", *slots)
        yield port, bus
    finally:
        process.terminate()
        process.wait(10)


def answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
