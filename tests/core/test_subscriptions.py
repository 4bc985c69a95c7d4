"""What subscription messages do to an audience, and which epoch a change belongs to."""

from functools import reduce
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audience_core.domain.records import AudienceSubscription
from audience_core.domain.subscriptions import (
    SubscriptionAction,
    apply_subscription,
    epoch_of_change,
    newer,
)


class Message(NamedTuple):
    action: SubscriptionAction
    occurred_at: int
    name: str = "Buyers"
    description: str = ""
    settings: tuple[tuple[str, str], ...] = ()


def after(state: AudienceSubscription | None, message: Message) -> AudienceSubscription:
    return apply_subscription(
        state,
        account="demo",
        audience_id=7,
        action=message.action,
        name=message.name,
        description=message.description,
        settings=dict(message.settings),
        occurred_at=message.occurred_at,
    )


def state_of(*messages: Message) -> AudienceSubscription:
    state = reduce(after, messages, None)
    assert state is not None
    return state


MESSAGES = st.builds(
    Message,
    st.sampled_from(["add", "update", "remove"]),
    st.integers(0, 6),
    st.sampled_from(["", "Buyers", "Leavers"]),
    st.sampled_from(["", "who bought"]),
    st.sampled_from([(), (("k", "v"),)]),
)
HISTORIES = st.lists(MESSAGES, min_size=1, max_size=12)


@given(HISTORIES, st.data())
def test_messages_that_are_delivered_again_at_once_change_nothing(history: list[Message], data: st.DataObject) -> None:
    repeated = [message for message in history for _ in range(data.draw(st.integers(1, 3)))]
    assert state_of(*repeated) == state_of(*history)


@given(HISTORIES)
def test_time_and_epoch_never_go_back(history: list[Message]) -> None:
    state: AudienceSubscription | None = None
    for message in history:
        following = after(state, message)
        if state is not None:
            assert following["updated_at"] >= state["updated_at"]
            assert state["epoch"] <= following["epoch"] <= state["epoch"] + 1
        state = following


@given(HISTORIES)
def test_the_epoch_moves_only_when_an_active_audience_is_removed(history: list[Message]) -> None:
    state: AudienceSubscription | None = None
    for message in history:
        following = after(state, message)
        before = state["epoch"] if state else 0
        closes = following != state and following["status"] == "REMOVED"
        closes = closes and (state is None or state["status"] == "ACTIVE")
        assert following["epoch"] == before + closes
        state = following


@given(HISTORIES, MESSAGES)
def test_a_message_older_than_the_state_changes_nothing(history: list[Message], late: Message) -> None:
    state = state_of(*history)
    older = late._replace(occurred_at=state["updated_at"] - 1)
    assert after(state, older) == state


@given(HISTORIES)
def test_applying_never_changes_the_state_that_was_passed_in(history: list[Message]) -> None:
    state = state_of(*history)
    copy = AudienceSubscription(**state)
    after(state, Message("remove", state["updated_at"] + 1))
    assert state == copy


def test_a_first_add_opens_epoch_0() -> None:
    state = state_of(Message("add", 5, description="who bought", settings=(("k", "v"),)))
    assert state == AudienceSubscription(
        account="demo",
        audience_id=7,
        name="Buyers",
        description="who bought",
        status="ACTIVE",
        epoch=0,
        settings={"k": "v"},
        opened_at=5,
        updated_at=5,
    )


def test_an_update_renames_within_the_epoch() -> None:
    state = state_of(Message("add", 5), Message("update", 6, name="Leavers"))
    assert (state["name"], state["epoch"], state["opened_at"], state["updated_at"]) == ("Leavers", 0, 5, 6)


def test_a_message_without_a_name_keeps_the_name() -> None:
    assert state_of(Message("add", 5), Message("update", 6, name=""))["name"] == "Buyers"
    assert state_of(Message("add", 5), Message("remove", 6, name=""))["name"] == "Buyers"


def test_a_remove_opens_a_new_epoch_and_a_second_one_does_not() -> None:
    removed = state_of(Message("add", 5), Message("remove", 6))
    assert (removed["status"], removed["epoch"]) == ("REMOVED", 1)
    again = after(removed, Message("remove", 9))
    assert (again["status"], again["epoch"], again["opened_at"]) == ("REMOVED", 1, 6)


def test_an_audience_that_is_added_again_starts_in_the_new_epoch() -> None:
    state = state_of(Message("add", 5), Message("remove", 6), Message("add", 9))
    assert (state["status"], state["epoch"], state["opened_at"]) == ("ACTIVE", 1, 9)


def test_a_remove_of_an_unknown_audience_keeps_a_late_add_from_reviving_it() -> None:
    state = state_of(Message("remove", 6), Message("add", 5))
    assert (state["status"], state["epoch"]) == ("REMOVED", 1)


def test_the_later_state_is_newer_and_the_higher_epoch_breaks_a_tie() -> None:
    added = state_of(Message("add", 5))
    removed = state_of(Message("add", 5), Message("remove", 5))
    renamed = state_of(Message("add", 5), Message("update", 6))
    assert newer(added, removed) == newer(removed, added) == removed
    assert newer(removed, renamed) == newer(renamed, removed) == renamed


@given(st.lists(MESSAGES, min_size=2, max_size=12).map(lambda drawn: sorted(drawn, key=lambda m: m.occurred_at)))
def test_whoever_compares_states_keeps_the_one_that_the_last_message_made(history: list[Message]) -> None:
    states = [state_of(*history[: number + 1]) for number in range(len(history))]
    last = states[-1]
    for kept in (reduce(newer, states), reduce(newer, reversed(states))):
        assert (kept["status"], kept["epoch"], kept["updated_at"]) == (
            last["status"],
            last["epoch"],
            last["updated_at"],
        )


@pytest.mark.parametrize("echoed", [0, 1, 9])
def test_an_echoed_epoch_is_taken_as_it_is(echoed: int) -> None:
    removed = state_of(Message("add", 5), Message("remove", 6))
    assert epoch_of_change(removed, echoed=echoed, occurred_at=1) == echoed
    assert epoch_of_change(None, echoed=echoed, occurred_at=1) == echoed


def test_a_change_of_an_unknown_audience_belongs_to_epoch_0() -> None:
    assert epoch_of_change(None, echoed=None, occurred_at=1) == 0


def test_a_change_of_a_removed_audience_belongs_to_nothing() -> None:
    removed = state_of(Message("add", 5), Message("remove", 6))
    assert epoch_of_change(removed, echoed=None, occurred_at=9) is None


def test_a_change_from_before_the_present_epoch_belongs_to_nothing() -> None:
    state = state_of(Message("add", 5), Message("remove", 6), Message("add", 9))
    assert epoch_of_change(state, echoed=None, occurred_at=8) is None
    assert epoch_of_change(state, echoed=None, occurred_at=9) == 1


def test_a_first_subscription_takes_changes_from_before_it() -> None:
    assert epoch_of_change(state_of(Message("add", 5)), echoed=None, occurred_at=1) == 0
