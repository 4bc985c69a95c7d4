"""How members and guards are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_core.domain.members import decode_member, encode_guard, encode_member, iso_time
from audience_core.domain.records import MembershipAction

AUDIENCES = st.integers(-(2**31), 2**31 - 1)
EPOCHS = st.integers(0, 2**31 - 1)


@given(AUDIENCES, EPOCHS)
def test_a_member_reads_back_as_it_was_written(audience_id: int, epoch: int) -> None:
    assert decode_member(encode_member(audience_id, epoch)) == (audience_id, epoch)


@given(AUDIENCES)
def test_a_member_of_epoch_0_is_a_bare_integer_so_that_the_set_stays_an_intset(audience_id: int) -> None:
    assert encode_member(audience_id, 0) == str(audience_id)


@given(AUDIENCES, st.integers(1, 1000))
def test_a_member_of_a_later_epoch_is_another_member(audience_id: int, epoch: int) -> None:
    assert encode_member(audience_id, epoch) == f"{audience_id}@{epoch}"


@given(st.integers(1, 2**53))
def test_a_guard_holds_the_time_and_its_sign_the_direction(occurred_at: int) -> None:
    assert encode_guard("ENTER", occurred_at) == str(occurred_at)
    assert encode_guard("EXIT", occurred_at) == str(-occurred_at)


@pytest.mark.parametrize("occurred_at", [0, -1, -(2**62)])
@pytest.mark.parametrize(("action", "guard"), [("ENTER", "1"), ("EXIT", "-1")])
def test_times_before_1970_keep_their_direction(action: MembershipAction, guard: str, occurred_at: int) -> None:
    assert encode_guard(action, occurred_at) == guard


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (1714592744067, "2024-05-01T19:45:44.067Z"),
    ],
)
def test_a_time_is_written_in_utc_with_milliseconds(milliseconds: int, text: str) -> None:
    assert iso_time(milliseconds) == text
