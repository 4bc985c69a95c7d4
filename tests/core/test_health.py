"""What is said of a connector, as a function of what was heard and of the time."""

import pytest

from audience_core.domain.health import Health, health_of

HOUR = 3_600_000
DAY = 24 * HOUR
NOW = 1_790_000_000_000


def health(
    last_message: int | None = None, last_refused: int | None = None, last_unknown_key: int | None = None
) -> Health:
    return health_of(
        last_message=last_message,
        last_refused=last_refused,
        last_unknown_key=last_unknown_key,
        silence_ms=DAY,
        now=NOW,
    )


def test_a_connector_that_never_spoke_is_told_how_to_be_set_up() -> None:
    found = health()
    assert (found.state, found.since) == ("never", None)
    assert "paste an API key" in found.text


@pytest.mark.parametrize(("ago", "mentioned"), [(0, True), (DAY, True), (DAY + 1, False)])
def test_an_unknown_key_that_was_used_lately_is_mentioned_to_who_never_spoke(ago: int, mentioned: bool) -> None:
    assert ("copied wrongly" in health(last_unknown_key=NOW - ago).text) == mentioned


@pytest.mark.parametrize(("ago", "state"), [(0, "ok"), (DAY, "ok"), (DAY + 1, "late")])
def test_who_spoke_within_the_time_is_ok_and_then_late(ago: int, state: str) -> None:
    assert health(NOW - ago).state == state


def test_a_late_connector_says_for_how_long_and_what_to_press() -> None:
    found = health(NOW - 30 * HOUR)
    assert found.since == NOW - 6 * HOUR
    assert "30 hours" in found.text
    assert "Resume" in found.text
    assert "5 days" in health(NOW - 5 * DAY).text


def test_a_revoked_key_is_told_until_a_message_is_accepted_again() -> None:
    refused = health(last_message=NOW - 2, last_refused=NOW - 1)
    assert (refused.state, refused.since) == ("refused", NOW - 1)
    assert "active API key" in refused.text
    assert health(last_refused=NOW - 5 * DAY).state == "refused"
    assert health(last_message=NOW, last_refused=NOW - 1).state == "ok"
