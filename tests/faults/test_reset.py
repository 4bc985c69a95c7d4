"""Log and state that do not fit any more: refused, and brought together by what the refusal asks for."""

from typing import Any

import pytest

from tests.faults.conftest import Report
from tests.faults.load import Load, erasure
from tests.faults.system import System, recreate_topics

DELETE_STATE = ("--delete-state", "--yes")


def everything(client: Any) -> dict[str, bytes | None]:
    """Dump of every key of every shard."""
    return {key: client.dump(key) for key in client.scan_iter(match="{s*}:[mcoij]*", count=1000)}


def erasures(client: Any) -> dict[str, dict[str, str]]:
    """What is known of every erasure: what each shard has deleted."""
    return {key: client.hgetall(key) for key in client.scan_iter(match="erasures:*")}


@pytest.mark.parametrize("options", [(), DELETE_STATE], ids=["kept", "deleted"])
def test_a_new_log_counts_over_the_state_once_offsets_are_reset_and_the_erased_stay_erased(
    system: System, report: Report, options: tuple[str, ...]
) -> None:
    system.start("indexer")
    worker = system.start("worker")
    load = Load(40)
    records = load.records(1200)
    system.sender.send(records)
    system.settle()
    system.sender.send([erasure(records[0]["account"], records[0]["mpid"])])
    assert system.outcome_at_rest().lost == 0
    assert worker.stop() == 0
    system.lose_the_log()
    system.sender.send([records[0], *load.records(200)])
    assert "audience-stream reset-offsets" in system.start("worker").refusal()
    system.run("reset-offsets", *options)
    if options:  # suppressions stay, and nothing else
        for shard, of_shard in system.log.former.items():
            system.log.former[shard] = [record for record in of_shard if record and "changes" not in record]
    system.start("worker")
    name = f"topic recreated, offsets reset, state {'deleted' if options else 'kept'}"
    report.add(name, system.outcome_at_rest(), changes=1402)


def test_a_recreated_topic_is_refused_and_changes_nothing(system: System) -> None:
    worker = system.start("worker")
    system.sender.send(Load(26).records(400))
    system.settle()
    assert worker.stop() == 0
    before = everything(system.client)
    recreate_topics(system.settings)
    system.sender.send(Load(27).records(2000))
    assert "recreated" in system.start("worker").refusal()
    assert everything(system.client) == before


def test_a_topic_that_is_recreated_under_a_running_worker_is_refused_within_seconds(
    system: System, report: Report
) -> None:
    worker = system.start("worker")
    system.sender.send(Load(28).records(400))
    system.settle()
    recreate_topics(system.settings)
    system.sender.send(Load(29).records(4000))
    assert "recreated" in worker.refusal()
    system.begin()
    system.sender.send(Load(29).records(100))
    system.run("reset-offsets", *DELETE_STATE)
    system.start("indexer")
    system.start("worker")
    report.add("topic recreated under a worker, state deleted", system.outcome_at_rest(), changes=4500)


def test_a_stored_offset_beyond_the_logs_end_is_refused_until_offsets_are_reset(system: System, report: Report) -> None:
    system.start("indexer")
    records = Load(34).records(100)
    known = next(record for record in records if record["identities"])
    system.sender.send(records)
    worker = system.start("worker")
    system.settle()
    system.sender.erase_identities(known["account"], known["identities"])
    system.sender.send([erasure(records[0]["account"], records[0]["mpid"])])
    assert system.outcome_at_rest().lost == 0
    assert worker.stop() == 0
    receipts = erasures(system.client)
    assert len(receipts) == 2
    for shard, offset in system.offsets().items():
        system.client.hset(f"{{s{shard}}}:o", "offset", offset + 1000)
    before = everything(system.client)
    assert "which the log does not hold" in system.start("worker").refusal()
    assert everything(system.client) == before
    system.run("reset-offsets")
    system.start("worker")
    report.add("stored offset beyond the log's end, offsets reset", system.outcome_at_rest(), changes=102)
    assert erasures(system.client) == receipts
