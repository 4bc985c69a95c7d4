"""Redis that dies, freezes, goes back in time, forgets, is slow, loses answers, or becomes read-only."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Make, Report
from tests.faults.load import Load
from tests.faults.proxy import Proxy
from tests.faults.redis_servers import RedisServer, in_step, is_role
from tests.faults.system import Process, System
from tests.pipeline.kafka_cluster import KafkaCluster
from tests.pipeline.running import eventually


@pytest.fixture
def proxy(redis_at: RedisServer) -> Iterator[Proxy]:
    proxy = Proxy(redis_at.port)
    yield proxy
    proxy.close()


@pytest.fixture
def behind_proxy(make_system: Make, one_node: KafkaCluster, redis_at: RedisServer, proxy: Proxy) -> System:
    """A system that reaches its Redis only through the proxy; the comparison goes straight to it."""
    return make_system(one_node, {"AUDIENCE_REDIS_URL": proxy.url}, redis_at.client)


def start(system: System) -> Process:
    system.start("indexer")
    worker = system.start("worker")
    eventually(worker.taken, 30, 8)
    return worker


def test_redis_restored_from_an_older_snapshot_under_load_is_brought_up_to_date(
    system: System, redis_at: RedisServer, report: Report
) -> None:
    start(system)
    with system.stream(11) as stream:
        eventually(lambda: stream.sent > 400, 30)
        backup = redis_at.take_backup()
        eventually(lambda: stream.sent > 1200, 30)
        redis_at.kill()
        redis_at.come_back(backup)
        eventually(lambda: stream.sent > 1600, 30)
    report.add("Redis restored from an older snapshot", system.outcome_at_rest(), changes=stream.sent)


def test_redis_restored_while_nothing_arrives_is_brought_up_to_date_all_the_same(
    system: System, redis_at: RedisServer, report: Report
) -> None:
    worker = start(system)
    load = Load(12)
    system.sender.send(load.records(500))
    system.settle()
    backup = redis_at.take_backup()
    system.sender.send(load.records(1000))
    first = system.outcome_at_rest()
    redis_at.kill()
    redis_at.come_back(backup)
    eventually(lambda: worker.saw("fenced"), 30)
    report.add("Redis restored while nothing arrives", first, changes=1500)
    report.add("Redis restored while nothing arrives", system.outcome_at_rest(), changes=0)


def test_redis_killed_under_load_comes_back_empty_and_is_rebuilt_from_the_log(
    system: System, redis_at: RedisServer, report: Report
) -> None:
    start(system)
    with system.stream(13) as stream:
        eventually(lambda: stream.sent > 800, 30)
        redis_at.kill()
        eventually(lambda: stream.sent > 1200, 30)
        redis_at.come_back()
        eventually(lambda: stream.sent > 1600, 30)
    report.add("Redis killed, back without data", system.outcome_at_rest(), changes=stream.sent)


def test_everything_is_rebuilt_after_flushall_catalog_and_listing_too(system: System, report: Report) -> None:
    start(system)
    with system.stream(14) as stream:
        eventually(lambda: stream.sent > 800, 30)
        system.client.flushall()
        eventually(lambda: stream.sent > 1600, 30)
    report.add("FLUSHALL under load", system.outcome_at_rest(), changes=stream.sent)
    for _ in range(3):
        system.client.flushall()
        report.add("FLUSHALL while nothing arrives", system.outcome_at_rest(), changes=0)


def test_a_redis_frozen_for_ten_seconds_loses_nothing(system: System, redis_at: RedisServer, report: Report) -> None:
    import time

    start(system)
    with system.stream(15) as stream:
        eventually(lambda: stream.sent > 400, 30)
        redis_at.freeze()
        time.sleep(10)  # the fault itself
        redis_at.thaw()
        eventually(lambda: stream.sent > 800, 30)
    report.add("Redis frozen for 10 s", system.outcome_at_rest(), changes=stream.sent)


def test_answers_that_never_come_lead_to_no_second_application(
    behind_proxy: System, proxy: Proxy, report: Report
) -> None:
    start(behind_proxy)
    proxy.lost = 0.01
    with behind_proxy.stream(16, rate=800) as stream:
        eventually(lambda: stream.sent > 4000, 60)
        proxy.withhold.set()  # and now all of them, for longer than the time-out
        sent = stream.sent
        eventually(lambda: stream.sent > sent + 1200, 30)
        proxy.withhold.clear()
    proxy.lost = 0.0
    report.add("1 % of Redis's answers lost, then all for a while", behind_proxy.outcome_at_rest(), changes=stream.sent)


def test_a_slow_redis_only_makes_it_later(behind_proxy: System, proxy: Proxy, report: Report) -> None:
    start(behind_proxy)
    proxy.delay = 0.2
    with behind_proxy.stream(17) as stream:
        eventually(lambda: stream.sent > 1000, 60)
    report.add("Redis slower by 200 ms", behind_proxy.outcome_at_rest(), changes=stream.sent)


def test_after_a_failover_behind_one_address_the_demoted_master_is_let_go(
    tmp_path: Path, behind_proxy: System, proxy: Proxy, redis_at: RedisServer, report: Report
) -> None:
    replica = RedisServer(tmp_path, "--replicaof", "127.0.0.1", str(redis_at.port))
    replica.start()
    try:
        start(behind_proxy)
        with behind_proxy.stream(18) as stream:
            eventually(lambda: stream.sent > 400, 30)
            in_step(redis_at, replica)
            replica.client.execute_command("REPLICAOF", "NO", "ONE")
            proxy.target = replica.port  # connections that are open stay with the demoted one
            redis_at.client.execute_command("REPLICAOF", "127.0.0.1", str(replica.port))
            eventually(is_role(redis_at, "slave"), 20)
            eventually(lambda: stream.sent > 1200, 30)
        behind_proxy.client = replica.client
        report.add("failover, the old master READONLY", behind_proxy.outcome_at_rest(), changes=stream.sent)
    finally:
        replica.stop()
