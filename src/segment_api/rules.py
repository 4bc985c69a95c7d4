"""Rules of saved segments: audiences joined by AND, OR and NOT. Pure: no I/O.

An audience that is empty or removed is *gone*. A group whose audiences are all gone matches nobody, never everybody: a
NOT that lost its audience must not open a campaign to the whole site. Inside an AND with something that is not gone,
such a NOT has simply nobody to leave out.
"""

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, model_validator

MAX_DEPTH = 8
MAX_ITEMS = 200

JavaInt = Annotated[int, Field(strict=True, ge=-(2**31), le=2**31 - 1)]


class AudienceItem(BaseModel):
    """Who is in an audience."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    audience_id: JavaInt


def _kind(value: Any) -> str:
    is_audience = "audience_id" in value if isinstance(value, dict) else isinstance(value, AudienceItem)
    return "audience" if is_audience else "group"


class Group(BaseModel):
    """`and` = in all of its items, `or` = in at least one, `not` = in none. Without items it matches nobody."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    op: Literal["and", "or", "not"]
    items: "list[Item]" = Field(max_length=MAX_ITEMS)

    @cached_property
    def audiences(self) -> frozenset[int]:
        """Every audience that the group names, at any depth."""
        return frozenset(item.audience_id for item in _walk(self) if isinstance(item, AudienceItem))


Item = Annotated[
    Annotated[AudienceItem, Tag("audience")] | Annotated[Group, Tag("group")],
    Discriminator(_kind),
]


class Rule(Group):
    """The outermost group, which also keeps the limits: 8 levels of groups, 200 items in all."""

    @model_validator(mode="after")
    def _within_limits(self) -> "Rule":
        if _depth(self) > MAX_DEPTH:
            raise ValueError(f"a rule has at most {MAX_DEPTH} levels of groups")
        if sum(1 for _ in _walk(self)) > MAX_ITEMS:
            raise ValueError(f"a rule has at most {MAX_ITEMS} items")
        return self


Group.model_rebuild()
Rule.model_rebuild()
RULE = TypeAdapter(Rule)
"""Reads a rule from JSON (`validate_json`) or from an object; raises pydantic's ValidationError."""


def only_audience(group: Group) -> int | None:
    """The audience that the rule is nothing but another name for, if there is one."""
    if group.op == "not" or len(group.items) != 1:
        return None
    (item,) = group.items
    return item.audience_id if isinstance(item, AudienceItem) else only_audience(item)


def matches(rule: Group, members: AbstractSet[int], populated: AbstractSet[int]) -> bool:
    """Whether a visitor who is in `members` matches. `populated`: the audiences that are subscribed and not empty."""
    return select(rule, lambda audience_id: int(audience_id in members), 1, populated | members) == 1


def select(rule: Group, members_of: Callable[[int], int], everyone: int, populated: AbstractSet[int]) -> int:
    """Those who match, out of many visitors at once. Each bit stands for one visitor.

    `members_of(audience_id)` gives the bits of those who are in it, `everyone` all bits there are.
    `populated` as above: nobody is in an audience that is not in it.
    """
    return _select(rule, members_of, everyone, populated, narrow=True)


def _select(
    item: Item, members_of: Callable[[int], int], everyone: int, populated: AbstractSet[int], *, narrow: bool
) -> int:
    """`narrow` turns with each NOT: below one, a group that is taken for nobody would become everybody."""
    if isinstance(item, AudienceItem):
        return members_of(item.audience_id)
    if _is_gone(item, populated):
        return everyone if not narrow and _holds_of_nobody(item) else 0
    found = everyone if item.op == "and" else 0
    for part in item.items:
        # AND may take what is gone literally: the rest of it keeps the group narrow
        below = (narrow != (item.op == "not")) and not (item.op == "and" and _is_gone(part, populated))
        bits = _select(part, members_of, everyone, populated, narrow=below)
        found = found & bits if item.op == "and" else found | bits
    return everyone & ~found if item.op == "not" else found


def _is_gone(item: Item, populated: AbstractSet[int]) -> bool:
    return isinstance(item, Group) and item.audiences.isdisjoint(populated)


def _holds_of_nobody(item: Item) -> bool:
    """Whether a group is literally true of somebody who is in none of its audiences."""
    if isinstance(item, AudienceItem) or not item.items:
        return False
    parts = (_holds_of_nobody(part) for part in item.items)
    if item.op == "and":
        return all(parts)
    return any(parts) if item.op == "or" else not any(parts)


def describe(rule: Group, names: Mapping[int, str]) -> str:
    """Say the rule in one plain sentence. `names`: audience id → name; one without a name is called by its id."""
    if not rule.items:
        return "Nobody: the rule is empty."
    return f"Visitors {_phrase(rule, names)}."


def _phrase(item: Item, names: Mapping[int, str]) -> str:
    if isinstance(item, AudienceItem):
        return f"in {_name(item, names)}"
    if not item.items:
        return "in an empty group"
    if item.op == "not":
        return _negation(item, names)
    return f" {item.op} ".join(_inner(part, names, item.op) for part in item.items)


def _negation(group: Group, names: Mapping[int, str]) -> str:
    audiences = [_name(part, names) for part in group.items if isinstance(part, AudienceItem)]
    if len(audiences) == len(group.items):
        return f"not in {audiences[0]}" if len(audiences) == 1 else f"in none of {', '.join(audiences)}"
    if len(group.items) == 1:
        return f"not ({_phrase(group.items[0], names)})"
    return f"not ({' or '.join(_inner(part, names, 'or') for part in group.items)})"


def _inner(part: Item, names: Mapping[int, str], around: str) -> str:
    phrase = _phrase(part, names)
    is_joined = isinstance(part, Group) and len(part.items) > 1 and part.op not in {"not", around}
    return f"({phrase})" if is_joined else phrase


def _name(item: AudienceItem, names: Mapping[int, str]) -> str:
    name = names.get(item.audience_id)
    return f"“{name}”" if name else f"audience {item.audience_id}"


def _walk(group: Group) -> Iterator[Item]:
    for item in group.items:
        yield item
        if isinstance(item, Group):
            yield from _walk(item)


def _depth(group: Group) -> int:
    return 1 + max((_depth(item) for item in group.items if isinstance(item, Group)), default=0)
