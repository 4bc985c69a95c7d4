"""The apply script on a real Redis against the same rule in plain Python, and its fence."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from audience_core.change_reader import as_change
from audience_core.domain.mpids import pack_mpid, unpack_mpid
from audience_core.domain.records import (
    AudienceChange,
    IdentitiesErased,
    MembershipAction,
    MembershipChange,
    VisitorErased,
)
from audience_core.domain.shard_state import ShardState, guard_grain
from audience_core.errors import FencedError, RedisUnavailable, ShardRefused
from audience_core.redis import keys
from audience_core.redis.connect import connect
from audience_core.redis.erasures import ReceiptStore
from audience_core.redis.operations import Operations
from audience_core.redis.shard_store import (
    Applied,
    ShardStore,
    StoredOffset,
)
from audience_core.settings import CoreSettings

SHARD, TOPIC = 2, "topic-1"
WINDOW, SUPPRESSION = 10_000, 20_000
# both sides of every limit, and a step back: gateways' clocks differ
RECEIVED = st.sampled_from(
    [-5, 0, 1, 416, 417, 418, 9_999, 10_000, 10_001, 10_416, 10_417, 10_834, 19_999, 20_000, 20_001, 30_001, 40_002]
)
OCCURRED = st.sampled_from([-3, 0, 1, 2, 3, 1_714_592_744_067, 1_714_592_744_068])

Record = MembershipChange | VisitorErased | IdentitiesErased
State = dict[str, Any]

ACCOUNTS = st.sampled_from(["demo", "other"])
MPIDS = st.sampled_from(["1", "-2", "a:é"])
IDENTITIES = st.lists(st.sampled_from(["h1", "h2", "h3"]), max_size=2)
CHANGES = st.lists(
    st.builds(
        AudienceChange,
        audience_id=st.sampled_from([0, 7, -8]),
        epoch=st.integers(0, 2),
        action=st.sampled_from(["ENTER", "EXIT"]),
    ),
    max_size=4,
)


def membership_changes() -> st.SearchStrategy[Record]:
    return st.builds(
        MembershipChange,
        account=ACCOUNTS,
        mpid=MPIDS,
        occurred_at=OCCURRED,
        received_at=RECEIVED,
        request_id=st.just("r"),
        identities=IDENTITIES,
        changes=CHANGES,
    )


# changes thrice as often as the erasures that end their story; a filter on all records would throw most logs away
RECORDS: st.SearchStrategy[Record] = st.one_of(
    *(membership_changes() for _ in range(6)),
    st.builds(VisitorErased, account=ACCOUNTS, mpid=MPIDS, received_at=RECEIVED, request_id=st.just("r")),
    st.builds(IdentitiesErased, account=ACCOUNTS, identities=IDENTITIES, received_at=RECEIVED, request_id=st.just("r")),
)
LOGS = st.lists(RECORDS, max_size=30)


class Shard:
    """One shard of one private Redis, as a worker sees it."""

    def __init__(self, url: str) -> None:
        self.settings = CoreSettings(
            redis_url=url,
            redis_timeout=timedelta(seconds=10),
            shards=4,
            ordering_window=timedelta(milliseconds=WINDOW),
            erasure_suppression=timedelta(milliseconds=SUPPRESSION),
        )
        self.client: Any = connect(self.settings)
        self.store = ShardStore(self.client, self.settings)
        self.next: int | None = None

    def apply(self, *records: Record) -> Applied:
        """Apply the next records of the log as one batch."""
        first = self.next or 0
        following = first + len(records)
        applied = self.store.apply(SHARD, TOPIC, self.next, following, operations(*records, first=first))
        self.next = following
        return applied

    def dump(self) -> dict[str, Any]:
        """Everything that Redis holds, key by key."""
        read = {
            "set": self.client.smembers,
            "hash": self.client.hgetall,
            "string": self.client.get,
            "list": lambda key: self.client.lrange(key, 0, -1),
        }
        return {key: read[self.client.type(key)](key) for key in self.client.scan_iter(count=1000)}

    def restore(self, saved: dict[str, Any]) -> None:
        """Make Redis hold the copy and nothing else."""
        self.client.flushdb()
        for key, value in saved.items():
            if isinstance(value, set):
                self.client.sadd(key, *value)
            elif isinstance(value, dict):
                self.client.hset(key, mapping=value)
            elif isinstance(value, list):
                self.client.rpush(key, *value)
            else:
                self.client.set(key, value)

    def state(self) -> State:
        """The dump in the words of ShardState."""
        parts = ("members", "guards", "last", "suppressed", "identities", "of", "erased", "counts")
        state: State = {**{part: {} for part in parts}, "receipts": []}
        for key, value in self.dump().items():
            prefix, kind, *rest = key.split(":", 3)
            assert prefix == "{s2}", f"{key} is of another shard"
            if kind in "mvxj":
                rest[1] = unpack_mpid(rest[1])
            if kind == "c":
                state["counts"] = {field: int(count) for field, count in value.items()}
            elif kind == "v":
                state["last"][tuple(rest)] = int(value.pop("r"))
                if value:
                    state["guards"][tuple(rest)] = {member: int(guard) for member, guard in value.items()}
            elif kind == "r":
                waiting = ReceiptStore(self.client).waiting(SHARD)
                state["receipts"] = [
                    (r.account, r.request_id, r.visitors, r.memberships, r.identities) for r in waiting
                ]
                assert sorted({r.offset for r in waiting}) == [r.offset for r in waiting]
            elif kind != "o":
                part = {"m": "members", "x": "suppressed", "i": "identities", "j": "of", "y": "erased"}[kind]
                visitors = set(map(unpack_mpid, value)) if kind == "i" else value
                state[part][tuple(rest)] = int(value) if kind in "xy" else visitors
        return state


def operations(*records: Record, first: int = 0) -> Operations:
    made = Operations()
    for offset, record in enumerate(records, first):
        if "changes" in record:
            made.change(as_change(cast(MembershipChange, record)))
        elif "mpid" in record:
            made.visitor_erased(cast(VisitorErased, record), offset)
        else:
            made.identities_erased(record, offset)
    return made


def expected_state(log: list[Record]) -> State:
    """What the oracle says after the log."""
    oracle = ShardState(WINDOW, SUPPRESSION)
    for record in log:
        if "changes" in record:
            oracle.change(cast(MembershipChange, record))
        elif "mpid" in record:
            oracle.erase_visitor(cast(VisitorErased, record))
        else:
            oracle.erase_identities(record)
    of: dict[tuple[str, str], set[str]] = {}
    for (account, identity), mpids in oracle.identities.items():
        for mpid in mpids:
            of.setdefault((account, mpid), set()).add(identity)
    return {
        "members": {visitor: members for visitor, members in oracle.members.items() if members},
        "guards": {visitor: guards for visitor, guards in oracle.guards.items() if guards},
        "last": oracle.last_received,
        "suppressed": oracle.suppressed,
        "identities": {key: mpids for key, mpids in oracle.identities.items() if mpids},
        "of": of,
        "erased": oracle.erased_identities,
        "receipts": oracle.receipts,
        "counts": {f"{account}:{member}": count for (account, member), count in oracle.counts.items()},
    }


def change(
    action: MembershipAction = "ENTER",
    occurred_at: int = 100,
    *,
    mpid: str = "1",
    account: str = "demo",
    received_at: int = 1000,
    identities: tuple[str, ...] = (),
    epoch: int = 0,
) -> MembershipChange:
    return MembershipChange(
        account=account,
        mpid=mpid,
        occurred_at=occurred_at,
        received_at=received_at,
        request_id="r",
        identities=list(identities),
        changes=[AudienceChange(audience_id=7, epoch=epoch, action=action)],
    )


def erase(mpid: str = "1", received_at: int = 1000) -> VisitorErased:
    return VisitorErased(account="demo", mpid=mpid, received_at=received_at, request_id="r")


@pytest.fixture
def shard(redis_url: str) -> Iterator[Shard]:
    shard = Shard(redis_url)
    yield shard
    shard.client.close()


@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LOGS, st.data())
def test_the_script_and_the_rule_in_python_agree_on_every_history_in_any_batches(
    shard: Shard, log: list[Record], data: st.DataObject
) -> None:
    shard.client.flushdb()
    shard.next = None
    rest = list(log)
    while rest:
        size = data.draw(st.integers(1, len(rest)), label="batch")
        batch, rest = rest[:size], rest[size:]
        before = shard.next
        shard.apply(*batch)
        if data.draw(st.booleans(), label="sent again"):
            with pytest.raises(FencedError):
                shard.store.apply(SHARD, TOPIC, before, shard.next or 0, operations(*batch))
    assert shard.state() == expected_state(log)
    counts, offset = shard.store.snapshot(SHARD)
    assert offset == len(log)
    assert all(count >= 0 for count in counts.values())
    recounted = shard.store.recount().get(SHARD, {})
    assert {field: count for field, count in counts.items() if count} == recounted


@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LOGS, LOGS)
def test_a_server_that_went_back_to_a_snapshot_ends_in_the_same_state(
    shard: Shard, log: list[Record], lost: list[Record]
) -> None:
    """Redis fails over to an older copy of itself; the worker finds the offset there and reads on from it."""
    shard.client.flushdb()
    shard.next = None
    shard.apply(*log)
    saved = shard.dump()
    shard.apply(*lost)
    final = shard.dump()
    believed = shard.next
    shard.restore(saved)
    if lost:
        with pytest.raises(FencedError) as caught:
            shard.store.apply(SHARD, TOPIC, believed, (believed or 0) + 1, operations(change()))
        shard.next = caught.value.stored
        for record in lost:
            shard.apply(record)
    assert shard.dump() == final


@pytest.mark.parametrize("believed", [None, 0, 2, 4, 2**40])
def test_the_fence_refuses_any_other_offset_and_changes_nothing(shard: Shard, believed: int | None) -> None:
    shard.apply(change(), change(mpid="2"), change(mpid="3"))
    before = shard.dump()
    with pytest.raises(FencedError) as caught:
        shard.store.apply(SHARD, TOPIC, believed, 9, operations(change("EXIT", 200)))
    assert (caught.value.shard, caught.value.expected, caught.value.stored) == (SHARD, believed, 3)
    assert shard.dump() == before


def test_the_fence_refuses_a_worker_that_believes_in_an_offset_which_redis_lost(shard: Shard) -> None:
    with pytest.raises(FencedError) as caught:
        shard.store.apply(SHARD, TOPIC, 3, 4, operations(change()))
    assert caught.value.stored is None
    assert shard.dump() == {}


def test_a_batch_that_is_sent_again_after_its_success_is_fenced(shard: Shard) -> None:
    shard.apply(change())
    before = shard.dump()
    with pytest.raises(FencedError):
        shard.store.apply(SHARD, TOPIC, None, 1, operations(change()))
    assert shard.dump() == before


def test_a_batch_of_a_recreated_topic_is_refused_and_changes_nothing(shard: Shard) -> None:
    shard.apply(change())
    before = shard.dump()
    with pytest.raises(ShardRefused, match="recreated"):
        shard.store.apply(SHARD, "topic-2", 1, 2, operations(change("EXIT", 200)))
    assert shard.dump() == before


def test_an_unknown_operation_fails_loudly_and_does_not_move_the_offset(shard: Shard) -> None:
    shard.apply(change())
    unknown = operations(change(mpid="2"))
    unknown.arguments += ["Z", "demo"]
    with pytest.raises(ResponseError, match="unknown operation"):
        shard.store.apply(SHARD, TOPIC, 1, 2, unknown)
    assert shard.store.locate(SHARD) == StoredOffset(TOPIC, 1)
    assert shard.store.snapshot(SHARD)[0] == shard.store.recount()[SHARD] == {("demo", 7, 0): 2}
    assert shard.apply(change(mpid="2"), change(mpid="3")).counts == {("demo", 7, 0): 3}


def test_a_full_redis_is_an_error_to_retry_and_changes_nothing(shard: Shard) -> None:
    shard.apply(change("EXIT", 100), change(mpid="2"))
    before = shard.dump()
    shard.client.config_set("maxmemory-policy", "noeviction")
    shard.client.config_set("maxmemory", "1")
    try:
        for record in (change("ENTER", 200), change("EXIT", 200, mpid="2"), erase("2")):
            with pytest.raises(RedisUnavailable):
                shard.store.apply(SHARD, TOPIC, 2, 3, operations(record))
            assert shard.dump() == before
    finally:
        shard.client.config_set("maxmemory", "0")
    assert shard.apply(change("ENTER", 200)).entered == 1


def test_a_receipt_is_kept_also_when_it_is_0(shard: Shard) -> None:
    log: list[Record] = [change(received_at=0), change(received_at=-5)]
    shard.apply(*log)
    assert shard.state()["last"] == expected_state(log)["last"] == {("demo", "1"): 0}


def test_an_empty_batch_moves_only_the_offset(shard: Shard) -> None:
    applied = shard.store.apply(SHARD, TOPIC, None, 5, Operations())
    assert applied == Applied(0, 0, 0, 0, 0, 0, {})
    assert shard.store.locate(SHARD) == StoredOffset(TOPIC, 5)
    assert set(shard.dump()) == {keys.offset(SHARD)}


def test_nothing_is_located_in_an_empty_redis(shard: Shard) -> None:
    assert shard.store.locate(SHARD) is None
    assert shard.store.snapshot(SHARD) == ({}, 0)
    assert shard.store.recount() == {}


def test_shards_do_not_see_one_another(shard: Shard) -> None:
    shard.apply(change())
    other = shard.store.apply(SHARD + 1, "topic-1", None, 1, operations(change()))
    assert other.counts == {("demo", 7, 0): 1}
    assert shard.store.recount() == {SHARD: {("demo", 7, 0): 1}, SHARD + 1: {("demo", 7, 0): 1}}


def test_the_answer_tells_the_absolute_counts_of_what_was_touched_only(shard: Shard) -> None:
    shard.apply(change(), change(mpid="2"), change(account="other"))
    applied = shard.apply(change(mpid="3"), change("EXIT", 200, mpid="2"), change(mpid="3"))
    assert applied.counts == {("demo", 7, 0): 2}
    assert (applied.entered, applied.left, applied.unchanged) == (1, 1, 1)


def test_a_change_that_changes_no_set_moves_no_count(shard: Shard) -> None:
    applied = shard.apply(change("EXIT", 100), change("ENTER", 101), change("ENTER", 102), change("EXIT", 99, mpid="2"))
    assert (applied.entered, applied.left, applied.unchanged) == (1, 0, 3)
    assert applied.counts == {("demo", 7, 0): 1}


def test_an_audience_that_was_emptied_is_told_as_0(shard: Shard) -> None:
    shard.apply(change())
    assert shard.apply(change("EXIT", 200)).counts == {("demo", 7, 0): 0}


def test_members_of_different_epochs_are_counted_apart(shard: Shard) -> None:
    applied = shard.apply(change(), change(epoch=1))
    assert applied.counts == {("demo", 7, 0): 1, ("demo", 7, 1): 1}


def test_an_older_change_is_stale_whatever_the_order_of_arrival(shard: Shard) -> None:
    applied = shard.apply(change("EXIT", 200), change("ENTER", 199))
    assert (applied.entered, applied.stale) == (0, 1)
    assert shard.store.recount() == {}


def test_of_two_changes_at_one_time_the_later_in_the_log_wins(shard: Shard) -> None:
    shard.apply(change("ENTER"), change("EXIT"))
    assert shard.store.recount() == {}
    shard.apply(change("ENTER"))
    assert shard.store.recount() == {SHARD: {("demo", 7, 0): 1}}


def test_an_older_change_after_the_ordering_window_is_taken_again(shard: Shard) -> None:
    shard.apply(change("EXIT", 200, received_at=1000))
    longest = WINDOW + guard_grain(WINDOW)
    assert shard.apply(change("ENTER", 199, received_at=1000 + longest)).stale == 1
    # the guard lives as long as messages keep coming
    applied = shard.apply(change("ENTER", 199, received_at=1001 + 2 * longest))
    assert (applied.entered, applied.stale) == (1, 0)


def test_an_erased_visitor_stays_erased_within_the_suppression_and_comes_back_after(shard: Shard) -> None:
    shard.apply(change(), change(mpid="2"))
    applied = shard.apply(erase(received_at=2000))
    assert (applied.erased, applied.counts) == (1, {("demo", 7, 0): 1})
    late = shard.apply(change(occurred_at=999, received_at=2000 + SUPPRESSION))
    assert (late.entered, late.suppressed) == (0, 1)
    back = shard.apply(change(occurred_at=999, received_at=2001 + SUPPRESSION))
    assert (back.entered, back.counts) == (1, {("demo", 7, 0): 2})


def test_an_erased_visitor_comes_back_though_another_one_was_erased_since(shard: Shard) -> None:
    shard.apply(erase(received_at=2000), erase(mpid="2", received_at=2000 + SUPPRESSION))
    applied = shard.apply(
        change(received_at=2001 + SUPPRESSION),
        change(mpid="2", received_at=2001 + SUPPRESSION),
    )
    assert (applied.entered, applied.suppressed, applied.counts) == (1, 1, {("demo", 7, 0): 1})


def test_an_erasure_leaves_nothing_of_the_visitor_but_the_suppression(shard: Shard) -> None:
    shard.apply(change(identities=("h1", "h2")), erase())
    late = change(identities=("h3",))
    shard.apply(late)
    assert set(shard.dump()) == {
        keys.offset(SHARD),
        keys.counts(SHARD),
        keys.receipts(SHARD),
        keys.of_visitor(SHARD, "demo", "1").suppression,
    }


def test_an_erasure_by_identity_finds_every_visitor_who_came_with_it_and_nobody_else(shard: Shard) -> None:
    shard.apply(
        change(identities=("h1",)),
        change(mpid="2", identities=("h1", "h2")),
        change(mpid="3", identities=("h2",)),
        change(account="other", identities=("h1",)),
    )
    applied = shard.apply(IdentitiesErased(account="demo", identities=["h1", "h9"], received_at=1000, request_id="r"))
    assert (applied.erased, applied.counts) == (2, {("demo", 7, 0): 1})
    assert shard.store.recount() == {SHARD: {("demo", 7, 0): 1, ("other", 7, 0): 1}}
    assert shard.client.smembers("{s2}:i:demo:h2") == {pack_mpid("3")}


def test_a_change_that_was_on_its_way_when_its_person_was_erased_is_dropped_and_its_visitor_erased(
    shard: Shard,
) -> None:
    """It lay in a gateway's spool while another gateway's erasure went straight to the log."""
    shard.apply(change(mpid="2", received_at=900))
    shard.apply(IdentitiesErased(account="demo", identities=["h1"], received_at=1000, request_id="r"))
    late = shard.apply(change(mpid="1", received_at=1000, identities=("h1",)))
    assert (late.entered, late.suppressed) == (0, 1)
    assert shard.apply(change(mpid="2", received_at=950, identities=("h2", "h1"))).counts == {("demo", 7, 0): 0}
    assert shard.apply(change(mpid="1", received_at=1500)).suppressed == 1
    # another profile that comes later is another matter
    assert shard.apply(change(mpid="3", received_at=1001, identities=("h1",))).entered == 1


def test_a_receipt_tells_in_numbers_what_was_deleted(shard: Shard) -> None:
    shard.apply(change(identities=("h1", "h2")), change(mpid="2", identities=("h1",)), change("EXIT", mpid="3"))
    shard.apply(IdentitiesErased(account="demo", identities=["h1"], received_at=1000, request_id="by-identity"))
    assert shard.apply(erase("3"), erase("unknown")).receipts == 3
    store = ReceiptStore(shard.client)
    found = [(r.kind, r.request_id, r.offset, r.visitors, r.memberships, r.identities) for r in store.waiting(SHARD)]
    assert found == [("I", "by-identity", 3, 2, 2, 3), ("V", "r", 4, 1, 0, 0), ("V", "r", 5, 0, 0, 0)]
    store.settle(SHARD, store.waiting(SHARD))
    assert store.waiting(SHARD) == []
    assert shard.client.hgetall(keys.erasure("demo", "by-identity")) == {"2:3": "I 2 2 3"}


def test_guards_and_suppressions_free_their_memory_later_than_the_rule_needs_them(shard: Shard) -> None:
    shard.apply(change(), change(mpid="2"), erase("2"))
    assert 7000 < shard.client.ttl(keys.of_visitor(SHARD, "demo", "1").guards) <= 7200
    suppressed_s = shard.client.ttl(keys.of_visitor(SHARD, "demo", "2").suppression)
    assert SUPPRESSION / 1000 < suppressed_s <= 2 * SUPPRESSION / 1000
    assert shard.client.ttl(keys.of_visitor(SHARD, "demo", "1").members) == -1


def test_a_set_of_first_epoch_audiences_is_stored_as_an_intset(shard: Shard) -> None:
    shard.apply(change())
    assert shard.client.object("encoding", keys.of_visitor(SHARD, "demo", "1").members) == "intset"


def test_a_server_that_forgot_the_script_is_taught_again(shard: Shard) -> None:
    shard.apply(change())
    shard.client.script_flush()
    with pytest.raises(RedisUnavailable, match="taught again"):
        shard.apply(change(mpid="2"))
    assert shard.apply(change(mpid="2")).entered == 1


def test_batches_follow_one_another_without_waiting_for_their_answers(shard: Shard) -> None:
    sent = [
        shard.store.send(SHARD, TOPIC, offset or None, offset + 1, operations(change(mpid=str(offset))))
        for offset in range(5)
    ]
    assert [shard.store.receive(sending).counts[("demo", 7, 0)] for sending in sent] == [1, 2, 3, 4, 5]


def test_what_follows_a_refused_batch_is_refused_too(shard: Shard) -> None:
    sent = [
        shard.store.send(SHARD, TOPIC, offset, offset + 1, operations(change(mpid=str(offset)))) for offset in (7, 8, 9)
    ]
    for sending in sent:
        with pytest.raises(FencedError):
            shard.store.receive(sending)
    assert shard.dump() == {}


def test_no_answer_is_taken_for_another_ones_after_the_connection_broke(shard: Shard) -> None:
    first = shard.store.send(SHARD, TOPIC, None, 1, operations(change()))
    second = shard.store.send(SHARD, TOPIC, 1, 2, operations(change(mpid="2")))
    first.call.connection.disconnect()
    with pytest.raises(RedisUnavailable):
        shard.store.receive(first)
    third = shard.store.send(SHARD, TOPIC, 9, 10, operations(change(mpid="3")))
    with pytest.raises(RedisUnavailable):
        shard.store.receive(second)
    with pytest.raises(FencedError):
        shard.store.receive(third)


def test_a_batch_far_larger_than_a_poll_is_applied_whole(shard: Shard) -> None:
    applied = shard.apply(*(change(mpid=str(number), identities=("h1",)) for number in range(5000)))
    assert applied.counts == {("demo", 7, 0): 5000}
    erased = shard.apply(IdentitiesErased(account="demo", identities=["h1"], received_at=1, request_id="r"))
    assert (erased.erased, erased.counts) == (5000, {("demo", 7, 0): 0})
