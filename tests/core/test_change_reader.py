"""Membership changes are read by hand as fastavro reads them, or left to it."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from audience_core.change_reader import Change, Run, as_change, read_change, runs_of
from audience_core.codec import Codec
from audience_core.domain.records import AudienceChange, MembershipAction, MembershipChange
from audience_core.errors import PoisonRecord

CODEC = Codec()
HEADER = 10
TIMES = st.integers(1_600_000_000_000, 2_190_000_000_000)
ODD_TIMES = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, -1, 2**41 - 1, 2**41, 2**34, 2**34 - 1])
ACTIONS: st.SearchStrategy[MembershipAction] = st.sampled_from(["ENTER", "EXIT"])
CHANGES = st.lists(
    st.fixed_dictionaries({"audience_id": st.integers(-(2**31), 2**31), "epoch": st.integers(0, 3), "action": ACTIONS}),
    max_size=4,
)
ASCII = st.text(st.characters(codec="ascii"), max_size=63)
LONGER = st.text(st.characters(codec="ascii"), max_size=200)
ANY = st.text(max_size=200)


def records(texts: st.SearchStrategy[str], times: st.SearchStrategy[int]) -> st.SearchStrategy[MembershipChange]:
    fields: dict[str, st.SearchStrategy[Any]] = {
        "account": texts,
        "mpid": texts,
        "occurred_at": times,
        "received_at": times,
        "request_id": texts,
        "identities": st.lists(texts | LONGER, max_size=3),
        "changes": CHANGES,
    }
    return st.fixed_dictionaries(fields)  # type: ignore[return-value]


def written(record: MembershipChange) -> bytes:
    return CODEC.encode("MembershipChange", record)


def read_by_library(data: bytes) -> Change | None:
    try:
        return as_change(CODEC.decode(data)[1])
    except PoisonRecord:
        return None


@given(records(ASCII, TIMES))
def test_what_a_gateway_writes_is_read_by_hand_and_alike(record: MembershipChange) -> None:
    assert read_change(written(record), HEADER) == as_change(record)


@given(records(ASCII | ANY, TIMES | ODD_TIMES))
def test_what_is_unusual_is_read_alike_or_left_to_the_library(record: MembershipChange) -> None:
    assert read_change(written(record), HEADER) in {as_change(record), None}


@given(records(ASCII, TIMES), st.data())
def test_no_damage_is_read_as_something_that_the_library_would_not_read(
    record: MembershipChange, data: st.DataObject
) -> None:
    body = bytearray(written(record))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(HEADER, len(body)))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    found = read_change(bytes(body), HEADER)
    assert found is None or found == read_by_library(bytes(body))


@given(records(ASCII, TIMES))
def test_a_record_that_is_cut_short_or_has_more_behind_it_is_left_to_the_library(record: MembershipChange) -> None:
    data = written(record)
    assert [read_change(data[:end], HEADER) for end in range(HEADER, len(data))] == [None] * (len(data) - HEADER)
    assert read_change(data + b"\0", HEADER) is None


@example([])
@given(CHANGES)
def test_runs_keep_the_order_and_none_names_an_audience_twice(changes: list[AudienceChange]) -> None:
    runs = runs_of(changes)
    assert [(run.action, member) for run in runs for member in run.members] == [
        (c["action"], f"{c['audience_id']}@{c['epoch']}" if c["epoch"] else str(c["audience_id"])) for c in changes
    ]
    assert all(len(set(run.members)) == len(run.members) for run in runs)


@pytest.mark.parametrize("count", [1, 1000, 1001, 2500])
def test_a_run_is_no_longer_than_lua_can_take(count: int) -> None:
    changes = [AudienceChange(audience_id=n, epoch=0, action="EXIT") for n in range(count)]
    runs = runs_of(changes)
    assert max(len(run.members) for run in runs) <= 1000
    assert runs[0] == Run("EXIT", tuple(str(n) for n in range(min(count, 1000))))
    assert sum(len(run.members) for run in runs) == count
