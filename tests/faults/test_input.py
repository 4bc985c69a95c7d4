"""Records that repeat, come in any order, can't be read, or are no longer what the state was made from."""

import random
import signal

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from audience_core.kafka.producer import Outgoing
from audience_core.topics import CHANGES, DEAD_LETTERS
from audience_stream.dlq import read
from tests.faults.conftest import Report
from tests.faults.load import Load, now_ms
from tests.faults.system import SHARDS, System, recreate_topics
from tests.pipeline.running import eventually

_HOUR_MS = 3_600_000


def poison(records: int) -> list[Outgoing]:
    return [Outgoing(CHANGES, n % SHARDS, b"acme:1", b"no record of ours") for n in range(records)]


UNTOLD = "untold:2:KILL"  # where the logs begin is told when it is asked for a second time


def delete_records(system: System, before: dict[int, int]) -> None:
    """Delete what lies before an offset of each shard, as retention does."""
    admin = AdminClient({"bootstrap.servers": system.settings.kafka_bootstrap_servers, "log_level": 0})
    wanted = [TopicPartition(CHANGES, shard, offset) for shard, offset in before.items()]
    for future in admin.delete_records(wanted).values():
        future.result()


def test_everything_five_times_in_any_order_ends_as_once_in_order(system: System, report: Report) -> None:
    system.start("indexer")
    records = Load(21).records(600)
    shuffled = records * 5
    random.Random(21).shuffle(shuffled)
    system.sender.send(shuffled)
    system.start("worker")
    found = system.outcome_at_rest()
    report.add("duplicates × 5, fully shuffled", found, changes=len(shuffled))
    in_order = {
        (r["account"], r["mpid"], str(change["audience_id"])): change["action"]
        for r in records
        for change in r["changes"]
    }
    members = {member for member, action in in_order.items() if action == "ENTER"}
    assert {item[1:] for item in system.found() if item[0] == "member"} == members


def test_equal_times_are_decided_by_the_log_and_skewed_clocks_by_nothing_else(system: System, report: Report) -> None:
    system.start("indexer")
    load, chooser, now = Load(22, visitors=50), random.Random(22), now_ms()
    equal, skewed = load.records(1000), load.records(1000)
    for record in equal:
        record["occurred_at"] = now
    for record in skewed:
        record["occurred_at"] = now + chooser.randrange(-20 * _HOUR_MS, 20 * _HOUR_MS)
        record["received_at"] = now + chooser.randrange(-_HOUR_MS, _HOUR_MS)
    system.sender.send(equal)
    assert system.start("worker", "answered:3:KILL").wait() == -signal.SIGKILL
    system.sender.send(skewed)
    assert system.start("worker", "sent:9:KILL").wait() == -signal.SIGKILL
    system.start("worker")
    report.add("equal times, skewed clocks, two kills", system.outcome_at_rest(), changes=2000, trials=2)


def test_a_little_poison_is_buried_and_its_neighbours_are_applied(system: System, report: Report) -> None:
    system.start("indexer")
    worker = system.start("worker")
    load = Load(23)
    for one in poison(20):
        system.sender.send(load.records(100))
        system.sender.send_raw([one])
    report.add("1 % poison", system.outcome_at_rest(), changes=2020)
    assert system.records_in(DEAD_LETTERS) == 20
    assert worker.stop() == 0


def test_a_dead_letter_is_kept_before_the_offset_moves_past_its_record(system: System, report: Report) -> None:
    system.start("indexer")
    load = Load(26)
    for _ in range(10):
        system.sender.send(load.records(110))
        system.sender.send_raw(poison(SHARDS))
    assert system.start("worker", "answered:3:KILL").wait() == -signal.SIGKILL
    system.start("worker")
    report.add("7 % poison, worker killed: answered", system.outcome_at_rest(), changes=1180)
    buried = {(letter["partition"], letter["offset"]) for _, _, letter in read(system.settings)}
    assert len(buried) == 10 * SHARDS


def test_a_stream_of_poison_stops_the_worker_which_says_what_to_do(system: System, report: Report) -> None:
    system.start("indexer")
    system.sender.send(Load(24).records(200))
    worker = system.start("worker")
    system.settle()
    system.sender.send_raw(poison(300))
    reason = worker.refusal()
    assert "can't be read" in reason
    assert "AUDIENCE_POISON_RATIO" in reason
    report.add("100 % poison", system.outcome(), changes=500)
    system.sender.send(Load(25).records(200))
    system.start("worker", AUDIENCE_POISON_RATIO="1")
    report.add("100 % poison", system.outcome_at_rest(), changes=200)


def test_another_number_of_shards_is_refused_with_both_numbers(system: System) -> None:
    worker = system.start("worker")
    system.sender.send(Load(30).records(100))
    system.settle()
    assert worker.stop() == 0
    assert "8 partitions, AUDIENCE_SHARDS is 16" in system.start("worker", AUDIENCE_SHARDS="16").refusal()
    recreate_topics(system.settings.model_copy(update={"shards": 16}))
    assert "8 shards, AUDIENCE_SHARDS is 16" in system.start("worker", AUDIENCE_SHARDS="16").refusal()
    indexer = system.start("indexer", AUDIENCE_SHARDS="16")
    assert indexer.wait() == 1
    assert "8 shards, AUDIENCE_SHARDS is 16" in indexer.tail()


def test_a_log_that_begins_after_the_stored_offset_is_refused_until_the_loss_is_accepted(
    system: System, report: Report
) -> None:
    system.start("indexer")
    worker = system.start("worker")
    load = Load(31)
    system.sender.send(load.records(400))
    system.settle()
    assert worker.stop() == 0
    stored = system.offsets()
    system.sender.send(load.records(800))
    system.log.read()
    begins = {shard: (stored[shard] + end) // 2 for shard, end in system.log.ends.items()}
    delete_records(system, begins)
    for fault in ("", UNTOLD):
        assert "--accept-partial-rebuild" in system.start("worker", fault).refusal()
    system.log.forget(stored, begins)
    system.start("worker --accept-partial-rebuild")
    report.add("log begins after the stored offset, loss accepted", system.outcome_at_rest(), changes=1200)


def test_an_empty_redis_is_not_rebuilt_from_half_a_log_until_that_is_accepted(system: System, report: Report) -> None:
    system.start("indexer")
    system.sender.send(Load(32).records(1200))
    system.log.read()
    begins = {shard: end // 2 for shard, end in system.log.ends.items()}
    delete_records(system, begins)
    for fault in ("", UNTOLD):
        assert "--accept-partial-rebuild" in system.start("worker", fault).refusal()
    system.log.forget(dict.fromkeys(begins, 0), begins)
    worker = system.start("worker", UNTOLD, AUDIENCE_ACCEPT_PARTIAL_REBUILD="true")
    report.add("rebuild from half a log, loss accepted", system.outcome_at_rest(), changes=1200)
    assert worker.saw("starts_not_told")


@pytest.mark.parametrize("accepted", [False, True])
def test_records_that_retention_deletes_before_a_running_worker_reads_them(
    system: System, report: Report, *, accepted: bool
) -> None:
    system.start("indexer")
    system.sender.send(Load(33).records(400))
    accepts = {"AUDIENCE_ACCEPT_PARTIAL_REBUILD": "true"} if accepted else {}
    # it stays a member, so that the fetch tells it and not the next assignment
    worker = system.start("worker", "read:2:STOP", AUDIENCE_KAFKA_SESSION_TIMEOUT="30s", **accepts)
    eventually(worker.is_stopped, 30)
    for seed in range(330, 338):  # the first of them may be on their way to it already
        system.sender.send(Load(seed).records(250))
    system.log.read()
    delete_records(system, system.log.ends)
    system.sender.send(Load(34).records(400))
    worker.thaw()
    if not accepted:
        assert "--accept-partial-rebuild" in worker.refusal()
        report.add("retention overtakes a running worker", system.outcome(), changes=2800)
        return
    system.settle()
    skipped = worker.events("records_skipped")
    assert skipped
    for event in skipped:
        system.log.forget({event["shard"]: event["first"]}, {event["shard"]: event["following"]})
    report.add("retention overtakes a running worker, loss accepted", system.outcome_at_rest(), changes=2800)
