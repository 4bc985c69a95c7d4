"""Rules of saved segments: who matches, as a function of the audiences."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from segment_api.rules import MAX_DEPTH, RULE, AudienceItem, Group, Item, Rule, describe, matches, only_audience, select

AUDIENCES = range(1, 6)
ids = st.sets(st.sampled_from(AUDIENCES))
audience_items = st.builds(AudienceItem, audience_id=st.sampled_from(AUDIENCES))


def groups(depth: int) -> st.SearchStrategy[Group]:
    parts = audience_items if depth == 1 else audience_items | groups(depth - 1)
    return st.builds(Group, op=st.sampled_from(["and", "or", "not"]), items=st.lists(parts, max_size=4))


rules = groups(4).map(lambda group: Rule(op=group.op, items=group.items))


def literally(item: Item, members: set[int]) -> bool:
    """The plain reading: an empty group is nobody, everything else as logic has it."""
    if isinstance(item, AudienceItem):
        return item.audience_id in members
    parts = [literally(part, members) for part in item.items]
    if not parts:
        return False
    return {"and": all(parts), "or": any(parts), "not": not any(parts)}[item.op]


def rule(op: str, *items: int | Rule) -> Rule:
    parts = [{"audience_id": item} if isinstance(item, int) else item.model_dump() for item in items]
    return RULE.validate_python({"op": op, "items": parts})


@given(rule=rules, members=ids)
def test_while_every_audience_is_populated_a_rule_means_what_it_says(rule: Rule, members: set[int]) -> None:
    if _has_empty_group(rule):
        assert matches(rule, members, set(AUDIENCES)) <= literally(rule, members)
    else:
        assert matches(rule, members, set(AUDIENCES)) == literally(rule, members)


@given(rule=rules, populated=ids, members=ids)
def test_what_is_gone_never_widens_a_rule(rule: Rule, populated: set[int], members: set[int]) -> None:
    members &= populated
    assert matches(rule, members, populated) <= literally(rule, members)


@given(rule=rules, populated=ids)
def test_a_rule_whose_audiences_are_all_gone_matches_nobody(rule: Rule, populated: set[int]) -> None:
    populated -= rule.audiences
    assert not matches(rule, populated, populated)
    assert not matches(rule, set(), populated)


@given(rule=rules, populated=ids)
def test_who_is_in_nothing_matches_only_by_a_not_of_a_populated_audience(rule: Rule, populated: set[int]) -> None:
    if matches(rule, set(), populated):
        assert _excluded(rule) & populated


@given(rule=rules, populated=ids, visitors=st.lists(ids, max_size=12))
def test_many_visitors_at_once_match_as_each_does_alone(
    rule: Rule, populated: set[int], visitors: list[set[int]]
) -> None:
    visitors = [visitor & populated for visitor in visitors]
    bits = {a: sum(1 << n for n, visitor in enumerate(visitors) if a in visitor) for a in AUDIENCES}
    found = select(rule, lambda a: bits[a], (1 << len(visitors)) - 1, populated)
    assert found == sum(1 << n for n, visitor in enumerate(visitors) if matches(rule, visitor, populated))


@given(rule=rules, members=ids, extra=st.sampled_from(AUDIENCES))
def test_being_in_an_audience_makes_it_populated_before_the_listing_knows(
    rule: Rule, members: set[int], extra: int
) -> None:
    members.add(extra)
    assert matches(rule, members, set()) == matches(rule, members, members)


@given(rule=rules)
def test_a_rule_comes_back_from_json_as_it_was(rule: Rule) -> None:
    assert RULE.validate_json(rule.model_dump_json()) == rule


@settings(max_examples=50)
@given(rule=rules, populated=ids, members=ids)
def test_a_rule_that_is_one_audience_alone_is_that_audience(rule: Rule, populated: set[int], members: set[int]) -> None:
    alone = only_audience(rule)
    if alone is not None:
        assert matches(rule, members & populated, populated) == (alone in members & populated)


def test_an_exclusion_that_lost_its_audience_excludes_nobody_from_the_rest() -> None:
    given_rule = rule("and", 1, rule("not", 2))
    assert matches(given_rule, {1}, {1})
    assert not matches(given_rule, {1, 2}, {1, 2})
    assert not matches(given_rule, set(), {1})


def test_an_exclusion_that_lost_its_audience_does_not_open_an_or_to_everybody() -> None:
    given_rule = rule("or", 1, rule("not", 2))
    assert matches(given_rule, set(), {1, 2})
    assert not matches(given_rule, set(), {1})
    assert matches(given_rule, {1}, {1})


@pytest.mark.parametrize(
    ("given_rule", "sentence"),
    [
        (rule("and", 1), "Visitors in “Buyers”."),
        (rule("and", 1, rule("not", 2)), "Visitors in “Buyers” and not in “Readers”."),
        (rule("or", 1, rule("and", 2, 3)), "Visitors in “Buyers” or (in “Readers” and in audience 3)."),
        (rule("and", 1, rule("not", 2, 3)), "Visitors in “Buyers” and in none of “Readers”, audience 3."),
        (rule("not", rule("and", 1, 2)), "Visitors not (in “Buyers” and in “Readers”)."),
        (rule("not", rule("and", 1, 2), 3), "Visitors not ((in “Buyers” and in “Readers”) or in audience 3)."),
        (rule("and", rule("or", 1)), "Visitors in “Buyers”."),
        (rule("or"), "Nobody: the rule is empty."),
        (rule("and", 1, rule("or")), "Visitors in “Buyers” and in an empty group."),
    ],
)
def test_a_rule_is_said_in_one_sentence(given_rule: Rule, sentence: str) -> None:
    assert describe(given_rule, {1: "Buyers", 2: "Readers", 3: ""}) == sentence


def test_a_rule_has_eight_levels_and_no_more() -> None:
    nested = rule("and", 1)
    for _ in range(MAX_DEPTH - 1):
        nested = rule("or", nested)
    with pytest.raises(ValidationError, match="levels"):
        rule("or", nested)


@pytest.mark.parametrize("audience_id", [True, "1", 1.5, 2**31, -(2**31) - 1, None])
def test_an_audience_id_is_a_32_bit_integer(audience_id: object) -> None:
    with pytest.raises(ValidationError):
        RULE.validate_python({"op": "and", "items": [{"audience_id": audience_id}]})


def _has_empty_group(group: Group) -> bool:
    return not group.items or any(isinstance(part, Group) and _has_empty_group(part) for part in group.items)


def _excluded(group: Group, *, inside: bool = False) -> set[int]:
    """Audiences that stand somewhere below a NOT."""
    inside = inside or group.op == "not"
    found: set[int] = set()
    for part in group.items:
        if isinstance(part, AudienceItem):
            found |= {part.audience_id} if inside else set()
        else:
            found |= _excluded(part, inside=inside)
    return found
