"""The rows of a visitor, as a function of what Redis holds and of the time."""

import pytest

from audience_core.domain.records import AudienceSubscription, SubscriptionStatus
from segment_api.rows import SegmentRow, build_rows

NOW_MS = 1_790_000_000_123
HOUR_MS = 3_600_000


def subscription(audience_id: int, *, epoch: int = 0, status: SubscriptionStatus = "ACTIVE") -> AudienceSubscription:
    return AudienceSubscription(
        account="acme",
        audience_id=audience_id,
        name="Name",
        description="",
        status=status,
        epoch=epoch,
        settings={},
        opened_at=1,
        updated_at=1,
    )


def rows(
    members: set[str] | None = None,
    guards: dict[str, str] | None = None,
    catalog: list[AudienceSubscription] | None = None,
    now_ms: int = NOW_MS,
) -> list[SegmentRow]:
    by_id = {state["audience_id"]: state for state in catalog or []}
    return build_rows("-42", members or set(), guards or {}, by_id, partner="mparticle", now_ms=now_ms)


def values(found: list[SegmentRow]) -> dict[str, str]:
    return {row["segment"]: row["value"] for row in found}


def test_a_row_has_the_five_fields_that_sdks_read_and_no_other() -> None:
    assert rows({"7"}, catalog=[subscription(7)]) == [
        {
            "visitor_id": "-42",
            "segment": "7",
            "value": "member",
            "expiration": 1_790_000_000 + 30 * 86_400,
            "partner": "mparticle",
        }
    ]


def test_a_visitor_of_whom_nothing_is_known_has_no_rows() -> None:
    assert rows() == []


def test_the_field_of_the_last_receipt_is_no_audience() -> None:
    assert rows(guards={"r": str(NOW_MS)}) == []


@pytest.mark.parametrize(("ago", "shown"), [(0, True), (HOUR_MS - 1, True), (HOUR_MS, False), (-60_000, True)])
def test_an_exit_is_shown_for_one_hour(ago: int, shown: bool) -> None:
    found = rows(guards={"7": str(-(NOW_MS - ago))}, catalog=[subscription(7)])
    assert values(found) == ({"7": "left"} if shown else {})


def test_an_entry_that_a_guard_remembers_is_no_row_of_its_own() -> None:
    assert rows(guards={"7": str(NOW_MS)}, catalog=[subscription(7)]) == []


def test_who_left_one_audience_stays_a_member_of_the_other() -> None:
    found = rows({"7"}, {"7": str(NOW_MS), "8": str(-NOW_MS)}, [subscription(7), subscription(8)])
    assert values(found) == {"7": "member", "8": "left"}


def test_a_removed_audience_shows_neither_members_nor_those_who_left() -> None:
    removed = [subscription(7, epoch=1, status="REMOVED"), subscription(8, epoch=1, status="REMOVED")]
    assert rows({"7", "7@1"}, {"8": str(-NOW_MS), "8@1": str(-NOW_MS)}, removed) == []


def test_only_members_of_the_present_epoch_are_shown() -> None:
    catalog = [subscription(7, epoch=1), subscription(8, epoch=1)]
    assert values(rows({"7", "8@1"}, catalog=catalog)) == {"8": "member"}


def test_an_exit_of_an_old_epoch_does_not_show_on_a_member_of_the_new_one() -> None:
    assert values(rows({"7@1"}, {"7": str(-NOW_MS)}, [subscription(7, epoch=1)])) == {"7": "member"}


def test_an_audience_that_the_catalog_does_not_know_is_shown_while_its_epoch_is_0() -> None:
    assert values(rows({"7", "8@1"}, {"9": str(-NOW_MS), "10@2": str(-NOW_MS)})) == {"7": "member", "9": "left"}


def test_the_expiration_stays_a_32_bit_integer_after_2038() -> None:
    assert rows({"7"}, now_ms=2_200_000_000_000)[0]["expiration"] == 2**31 - 1


def test_rows_are_ordered_by_audience_as_numbers() -> None:
    assert list(values(rows({"10", "9", "-1"}))) == ["-1", "9", "10"]
