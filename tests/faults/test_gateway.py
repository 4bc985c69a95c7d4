"""Gateways that are killed with a message in hand, and what they know while Redis has forgotten it."""

import signal

import pytest

from audience_core.domain.records import AudienceChange, AudienceSubscription
from audience_core.redis import keys as keys_of
from audience_core.redis.catalog import parse
from audience_core.topics import SUBSCRIPTIONS
from audience_stream.embedded import free_port
from tests.faults.conftest import Report
from tests.faults.faulty_gateway import POINTS
from tests.faults.firehose import Firehose, make_keys, revoke
from tests.faults.load import ACCOUNTS, AUDIENCES, Load, subscription
from tests.faults.redis_servers import RedisServer
from tests.faults.system import Process, System
from tests.pipeline.running import eventually


@pytest.fixture
def port(system: System) -> int:
    chosen = free_port()
    system.environment["AUDIENCE_GATEWAY_PORT"] = str(chosen)
    return chosen


def start(system: System) -> None:
    system.start("indexer")
    system.start("worker")
    eventually(lambda: all(system.client.hlen(f"catalog:{account}") == len(AUDIENCES) for account in ACCOUNTS), 30)


@pytest.mark.parametrize("point", POINTS)
def test_a_gateway_killed_before_it_answered_leaves_nothing_undone(
    system: System, report: Report, port: int, point: str
) -> None:
    start(system)
    keys = make_keys(system.settings, ACCOUNTS)
    gateways = [system.start("gateway", f"{point}:20:KILL")]

    def start_again() -> None:
        if gateways[-1].ended():
            again = f"{point}:30:KILL" if len(gateways) < 4 else ""
            gateways.append(system.start("gateway", again))

    with Firehose(port, keys, start_again) as firehose:
        for record in Load(41).records(300):
            firehose.change(record)
    assert [gateway.wait() for gateway in gateways[:4]] == [-signal.SIGKILL] * 4
    system.sender.acknowledged |= firehose.acknowledged
    report.add(f"gateway killed: {point}", system.outcome_at_rest(), changes=300, trials=4)


def test_a_redis_that_forgot_everything_costs_no_message_no_revocation_and_no_epoch(
    system: System, report: Report, port: int
) -> None:
    start(system)
    keys = make_keys(system.settings, (*ACCOUNTS, "revoked"))
    system.start("gateway")
    load, of_revoked = Load(42), Load(44)

    def is_suspended() -> bool:
        record = of_revoked.records(1)[0]
        record["account"] = "revoked"
        return bool(firehose.change(record)["suspend_subscription"])

    with Firehose(port, keys) as firehose:
        assert [firehose.subscribe("acme", 9, action) for action in ("add", "remove", "add")] == [0, 1, 1]
        revoke(system.settings, "revoked", keys["revoked"])
        eventually(is_suspended, 10)
        for _ in range(5):
            for record in load.records(20):
                firehose.change(record)
            system.client.flushall()
            assert firehose.subscribe("acme", 9, "update") == 1
            assert is_suspended()
    system.sender.acknowledged |= firehose.acknowledged
    system.settle()
    eventually(lambda: system.client.hexists(keys_of.catalog("acme"), "9"), 30)
    system.subscriptions["acme", 9] = parse(system.client.hgetall(keys_of.catalog("acme")))[9]
    assert system.subscriptions["acme", 9]["epoch"] == 1
    report.add("Redis forgets all, the gateway goes on", system.outcome_at_rest(), changes=100, trials=5)


@pytest.mark.parametrize("saved", [["add"], ["add", "remove"]], ids="+".join)
def test_a_gateway_that_starts_on_a_restored_redis_opens_no_epoch_that_members_carry_already(
    system: System, redis_at: RedisServer, report: Report, port: int, saved: list[str]
) -> None:
    start(system)
    keys = make_keys(system.settings, ACCOUNTS)
    gateway = system.start("gateway")
    member = Load(45).records(1)[0]
    member |= {"account": "acme", "changes": [AudienceChange(audience_id=9, epoch=1, action="ENTER")]}
    with Firehose(port, keys) as firehose:
        for action in saved:
            firehose.subscribe("acme", 9, action)
        backup = redis_at.take_backup()
        for action in ["add", "remove", "add"][len(saved) :]:
            firehose.subscribe("acme", 9, action)
        firehose.change(member)
        system.settle()
        for process in system.processes:  # the indexer would mend the catalog within a second
            process.kill()
        assert gateway.ended()
        redis_at.kill()
        redis_at.come_back(backup)
        system.start("gateway")
        assert [firehose.subscribe("acme", 9, action) for action in ("remove", "add")] == [2, 2]
    system.sender.acknowledged |= firehose.acknowledged
    system.start("indexer")
    system.start("worker")
    system.settle()
    system.subscriptions["acme", 9] = parse(system.client.hgetall(keys_of.catalog("acme")))[9]
    assert system.subscriptions["acme", 9]["epoch"] == 2
    report.add("gateway started on a restored Redis", system.outcome_at_rest(), changes=1)


def test_a_subscription_that_came_late_does_not_stay_the_last_in_its_topic(system: System, report: Report) -> None:
    newest = subscription("acme", 9)
    late = AudienceSubscription(**{**newest, "name": "Former", "updated_at": newest["updated_at"] - 1})
    for state in (newest, late):
        system.sender.subscribe(state)
    system.subscriptions["acme", 9] = newest
    before = system.records_in(SUBSCRIPTIONS)
    indexer = system.start("indexer")
    system.start("worker")
    eventually(lambda: system.records_in(SUBSCRIPTIONS), 30, before + 1)
    indexer.kill()
    system.client.flushall()
    system.start("indexer")
    report.add("a subscription's record came late", system.outcome_at_rest(), changes=0)
    assert system.records_in(SUBSCRIPTIONS) == before + 1


def test_a_gateway_told_to_stop_under_load_ends_with_0(system: System, report: Report, port: int) -> None:
    start(system)
    keys = make_keys(system.settings, ACCOUNTS)
    gateways: list[Process] = [system.start("gateway")]

    def start_again() -> None:
        if gateways[-1].ended():
            gateways.append(system.start("gateway"))

    with Firehose(port, keys, start_again) as firehose:
        for n, record in enumerate(Load(43).records(300)):
            firehose.change(record)
            if n in {100, 200}:
                assert gateways[-1].stop() == 0
    system.sender.acknowledged |= firehose.acknowledged
    report.add("gateway restarted under load", system.outcome_at_rest(), changes=300, trials=2)
