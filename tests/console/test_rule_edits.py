"""Editing a rule: a pure function, so generated edits show what holds for all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_api.console.rule_edits import EMPTY, EditRefused, edited, last_group
from segment_api.rules import MAX_DEPTH, RULE, Group, Rule

NAMES = {1: "One", 2: "Two", 3: "Three"}


def rule(value: object) -> Rule:
    return RULE.validate_python(value)


def after(*edits: str, start: Rule = EMPTY) -> object:
    for edit in edits:
        start, _ = edited(start, edit, NAMES)
    return start.model_dump()


def test_audiences_and_groups_are_added_where_the_place_says() -> None:
    assert after("add:1:", "group:", "add:2:1", "op:not:1") == {
        "op": "and",
        "items": [{"audience_id": 1}, {"op": "not", "items": [{"audience_id": 2}]}],
    }


def test_a_group_inside_an_and_joins_with_or_and_the_other_way_round() -> None:
    assert after("group:", "group:0") == {"op": "and", "items": [{"op": "or", "items": [{"op": "and", "items": []}]}]}


def test_removing_an_item_leaves_its_neighbours_as_they_were() -> None:
    assert after("add:1:", "add:2:", "add:3:", "remove:1") == {
        "op": "and",
        "items": [{"audience_id": 1}, {"audience_id": 3}],
    }


def test_an_item_moves_into_another_group_even_when_its_place_shifts() -> None:
    assert after("add:1:", "group:", "add:2:1", "move:0:1") == {
        "op": "and",
        "items": [{"op": "or", "items": [{"audience_id": 2}, {"audience_id": 1}]}],
    }


@pytest.mark.parametrize("edit", ["move:0:0", "move:0:0.0"])
def test_a_group_does_not_move_into_itself(edit: str) -> None:
    start = rule({"op": "and", "items": [{"op": "or", "items": [{"op": "and", "items": []}]}]})
    with pytest.raises(EditRefused, match="itself"):
        edited(start, edit, NAMES)


def test_an_audience_is_in_a_group_once() -> None:
    with pytest.raises(EditRefused, match="already"):
        after("add:1:", "add:1:")
    with pytest.raises(EditRefused, match="already"):
        after("add:1:", "group:", "add:1:1", "move:0:1")


def test_only_what_may_be_picked_is_added() -> None:
    with pytest.raises(EditRefused, match="no visitor"):
        after("add:9:")


def test_a_rule_has_a_greatest_depth() -> None:
    places = [".".join("0" * n) for n in range(MAX_DEPTH)]
    with pytest.raises(EditRefused, match="levels"):
        after(*(f"group:{place}" for place in places))


@pytest.mark.parametrize(
    "edit",
    ["", "add", "add:1", "add:x:", "add:1:9", "op:xor:", "remove:", "remove:0", "move:0", "nothing:", "add:1:-1"],
)
def test_an_edit_that_makes_no_sense_is_refused_in_words(edit: str) -> None:
    with pytest.raises(EditRefused):
        edited(EMPTY, edit, NAMES)


@given(
    st.lists(
        st.one_of(
            st.builds("add:{}:{}".format, st.sampled_from([1, 2, 3]), st.sampled_from(["", "0", "1", "0.0", "1.0"])),
            st.builds("group:{}".format, st.sampled_from(["", "0", "1"])),
            st.builds("op:{}:{}".format, st.sampled_from(["and", "or", "not"]), st.sampled_from(["", "0", "1"])),
            st.builds("remove:{}".format, st.sampled_from(["0", "1", "0.0"])),
            st.builds("move:{}:{}".format, st.sampled_from(["0", "1", "0.0"]), st.sampled_from(["", "0", "1"])),
        ),
        max_size=15,
    )
)
def test_whatever_is_edited_the_rule_stays_one_and_the_target_stays_a_group(edits: list[str]) -> None:
    current, target = EMPTY, ""
    for edit in edits:
        before = current.model_dump()
        try:
            current, said = edited(current, edit, NAMES)
        except EditRefused:
            assert current.model_dump() == before
            continue
        assert said
        target = last_group(current, target, edit)
        place: Group = current
        for step in target.split(".") if target else []:
            inner = place.items[int(step)]
            assert isinstance(inner, Group)
            place = inner
    assert RULE.validate_json(current.model_dump_json()) == current
