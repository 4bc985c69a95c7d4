"""What the services tell Prometheus about one change on its way, and about a worker that hangs."""

import os
import signal

import redis
from confluent_kafka import Producer

from audience_core.codec import Codec
from audience_core.domain.partitioning import audience_key, count_key, shard_of, visitor_key
from audience_core.redis import keys
from audience_core.topics import COUNTS
from tests.pipeline.running import Stack, eventually


def test_a_change_is_counted_at_every_station_once_it_has_passed(stack: Stack) -> None:
    stations = [
        ("gateway", "audience_gateway_profiles_total", {}),
        ("gateway", "audience_gateway_changes_total", {"action": "enter"}),
        ("gateway", "audience_gateway_ack_duration_seconds_count", {}),
        ("worker", "audience_worker_changes_total", {"outcome": "entered"}),
        ("worker", "audience_worker_freshness_seconds_count", {}),
        ("worker", "audience_worker_step_duration_seconds_count", {"step": "apply"}),
        ("indexer", "audience_indexer_freshness_seconds_count", {}),
    ]
    assert stack.subscribe(7001).status_code == 200
    before = [stack.metric(service, name, **labels) for service, name, labels in stations]
    assert stack.change("m-1", 7001, "add").status_code == 200
    eventually(lambda: stack.listing().get(7001), 5, 1)
    for (service, name, labels), value in zip(stations, before, strict=True):
        eventually(lambda: stack.metric(service, name, **labels) > value, 2)  # noqa: B023 - awaited here


def test_the_lag_of_a_worker_that_hangs_is_told_from_outside_and_is_zero_once_it_goes_on(stack: Stack) -> None:
    eventually(lambda: stack.metric("indexer", "audience_shard_lag_seconds"), 10, 0)
    worker = stack.service_pid("worker")
    os.kill(worker, signal.SIGSTOP)
    try:
        assert stack.subscribe(7002).status_code == 200
        for visitor in range(20):
            assert stack.change(f"m-2-{visitor}", 7002, "add").status_code == 200
        eventually(lambda: stack.metric("indexer", "audience_shard_lag_records"), 5, 20)
        eventually(lambda: stack.metric("indexer", "audience_shard_lag_seconds") > 1, 5)
    finally:
        os.kill(worker, signal.SIGCONT)
    eventually(lambda: stack.metric("indexer", "audience_shard_lag_records"), 30, 0)
    eventually(lambda: stack.metric("indexer", "audience_shard_lag_seconds"), 1, 0)
    eventually(lambda: stack.listing().get(7002), 5, 20)


def test_every_shard_has_one_worker_that_stands_where_redis_stands(stack: Stack) -> None:
    shards = int(stack.ready["environment"].get("AUDIENCE_SHARDS", "8"))
    eventually(lambda: stack.metric("worker", "audience_worker_assigned_shards"), 30, shards)
    stored = stack.metric("worker", "audience_worker_applied_offset")
    eventually(lambda: stack.metric("indexer", "audience_shard_stored_offset"), 5, stored)
    assert stack.metric("indexer", "audience_redis_memory_bytes", node="redis") > 0


def test_a_wrong_count_on_the_way_is_told_as_drift_and_repaired(stack: Stack) -> None:
    assert stack.subscribe(7003).status_code == 200
    assert stack.change("m-3", 7003, "add").status_code == 200
    eventually(lambda: stack.listing().get(7003), 5, 1)
    # on a busy machine counts of the test before may have been under way for longer than the comparison allows for
    eventually(lambda: stack.metric("indexer", "audience_indexer_drifted_audiences"), 20, 0)
    settings = {name.removeprefix("AUDIENCE_").lower(): value for name, value in stack.ready["environment"].items()}
    account, shards = stack.ready["account"], int(settings.get("shards", "8"))
    shard = shard_of(visitor_key(account, "m-3"), shards)
    with redis.Redis.from_url(stack.ready["redis_url"], decode_responses=True) as client:
        stored = int(str(client.hget(keys.offset(shard), "offset")))
    record = {"account": account, "audience_id": 7003, "epoch": 0, "shard": shard, "count": 9, "offset": stored}
    producer = Producer({"bootstrap.servers": stack.ready["kafka_bootstrap"]})
    producer.produce(
        COUNTS,
        Codec().encode("ShardCount", record),
        count_key(account, 7003, 0, shard),
        partition=shard_of(audience_key(account, 7003), shards),
    )
    assert producer.flush(10) == 0
    eventually(lambda: stack.listing().get(7003), 5, 9)
    eventually(lambda: stack.metric("indexer", "audience_indexer_drifted_audiences"), 10, 1)
    eventually(lambda: stack.listing().get(7003), 2, 1)
    eventually(lambda: stack.metric("indexer", "audience_indexer_drifted_audiences"), 10, 0)
