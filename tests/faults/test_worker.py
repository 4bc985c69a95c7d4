"""Workers that die, freeze, come and go."""

import signal
import time

import pytest

from tests.faults.conftest import Report
from tests.faults.faulty_worker import POINTS
from tests.faults.load import Load, erasure
from tests.faults.redis_servers import RedisServer
from tests.faults.system import System
from tests.pipeline.running import eventually

PASSES = (1, 3, 7)
FIRST_PASSES = (1, 1, 1)  # offsets are mirrored in pauses: a small load may see only one


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_between_two_steps_leaves_what_the_next_one_needs(
    system: System, report: Report, point: str
) -> None:
    load, changes = Load(len(point)), 0
    system.start("indexer")
    for nth in FIRST_PASSES if point == "committed" else PASSES:
        records = load.records(400)
        system.sender.send(records[:200])
        worker = system.start("worker", f"{point}:{nth}:KILL")
        system.sender.send(records[200:])
        system.sender.send([erasure("acme", records[0]["mpid"])])
        assert worker.wait() == -signal.SIGKILL, worker.tail()
        changes += 401
        found = system.outcome()
        assert (found.lost, found.phantom, found.drift) == (0, 0, 0), found
    system.start("worker")
    report.add(f"worker killed: {point}", system.outcome_at_rest(), changes=changes, trials=len(PASSES))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("point", ["read", "half-sent", "answered"])
def test_a_zombie_that_wakes_with_a_batch_in_hand_changes_nothing(
    system: System, report: Report, point: str, protocol: str
) -> None:
    system.environment["AUDIENCE_KAFKA_GROUP_PROTOCOL"] = protocol
    indexer = system.start("indexer")
    zombie = system.start("worker", f"{point}:2:STOP")
    load = Load(2)
    eventually(zombie.taken, 30, 8)
    for _ in range(10):
        system.sender.send(load.records(100))
    eventually(zombie.is_stopped, 30)
    system.start("worker")
    system.settle()
    zombie.send(signal.SIGCONT)
    system.sender.send(load.records(1000))
    eventually(lambda: zombie.saw("shards_revoked"), 30)
    found = system.outcome_at_rest()
    report.add(f"zombie worker: {point}, {protocol} protocol", found, changes=2000)
    # the zombie's stale counts are the last ones in the topic now: whoever reads it anew must not believe them
    indexer.kill()
    system.start("indexer")
    report.add(f"zombie worker: {point}, then a new indexer", system.outcome_at_rest(), changes=0)
    assert zombie.stop() == 0


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_workers_come_and_go_under_load_and_each_one_that_is_told_to_ends_with_0(
    system: System, report: Report, protocol: str
) -> None:
    system.environment["AUDIENCE_KAFKA_GROUP_PROTOCOL"] = protocol
    system.start("indexer")
    with system.stream(3) as stream:
        first = system.start("worker")
        eventually(first.taken, 30, 8)
        others = [system.start("worker") for _ in range(3)]
        for other in others:
            eventually(lambda other=other: other.saw("shards_taken"), 30)  # type: ignore[misc]
        assert [worker.stop() for worker in [first, *others[:2]]] == [0, 0, 0]
    report.add(f"workers 1 → 4 → 1, {protocol} protocol", system.outcome_at_rest(), changes=stream.sent)
    assert others[-1].stop() == 0


def test_records_that_the_client_loses_are_read_again(system: System, report: Report) -> None:
    system.start("indexer")
    worker = system.start("worker", "dropped:4:KILL")
    with system.stream(6) as stream:
        eventually(lambda: worker.saw("records_left_out"), 60)
    report.add("the client loses a batch", system.outcome_at_rest(), changes=stream.sent)


def test_the_last_records_of_a_shard_that_the_client_loses_are_read_again(system: System, report: Report) -> None:
    system.start("indexer")
    records = Load(1).records(50)
    system.sender.send(records)
    system.start("worker", "dropped:1:KILL")
    report.add("the client loses the newest batch", system.outcome_at_rest(), changes=len(records))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_shards_that_come_back_to_a_worker_that_waited_for_redis_are_read_on(
    system: System, redis_at: RedisServer, report: Report, protocol: str
) -> None:
    system.environment["AUDIENCE_KAFKA_GROUP_PROTOCOL"] = protocol
    system.start("indexer")
    workers = [system.start("worker") for _ in range(2)]
    eventually(lambda: [len(worker.shards()) for worker in workers], 60, [4, 4])
    with system.stream(7) as stream:
        eventually(lambda: stream.sent > 400, 30)
        redis_at.freeze()
        eventually(lambda: all(worker.saw("retrying") for worker in workers), 30)
        for worker in workers:  # each one's shards go to the other, and come back
            before = len(worker.events("shards_revoked"))
            worker.send(signal.SIGSTOP)
            time.sleep(4)  # the fault itself: a session is over after 2 or 3 s
            worker.thaw()
            eventually(lambda worker=worker, n=before: len(worker.events("shards_revoked")) > n, 30)  # type: ignore[misc]
        redis_at.thaw()
        sent = stream.sent
        eventually(lambda: stream.sent > sent + 400, 30)
    report.add(f"shards moved while Redis is away, {protocol} protocol", system.outcome_at_rest(), changes=stream.sent)
