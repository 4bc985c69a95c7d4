"""Editing a rule step by step: pure, so that a button, a drop and a form without a script are the same edit.

A place is the way from the outermost group: `""` is that group, `"1"` its second item, `"1.0"` the first item of that.
An edit is a text, as the value of a button carries it: `add:<audience>:<place>`, `group:<place>`, `op:<op>:<place>`,
`remove:<place>`, `move:<from>:<place>`.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from segment_api.rules import MAX_DEPTH, MAX_ITEMS, RULE, Rule

EMPTY = RULE.validate_python({"op": "and", "items": []})


class EditRefused(Exception):
    """The edit can't be made; the message is for the person."""


def edited(rule: Rule, edit: str, names: Mapping[int, str]) -> tuple[Rule, str]:
    """Return the rule after an edit, and what happened in words.

    `names`: name of each audience that may be picked. Raises EditRefused.
    """
    tree: dict[str, Any] = rule.model_dump()
    kind, *rest = edit.split(":")
    try:
        said = _EDITS[kind](tree, *rest, names)
    except (KeyError, TypeError, ValueError, IndexError):
        raise EditRefused("That is not possible any more: the rule has changed. Try again.") from None
    try:
        return RULE.validate_python(tree), said
    except ValidationError:
        raise EditRefused(f"A rule has at most {MAX_DEPTH} levels of groups and {MAX_ITEMS} items.") from None


def _add(tree: dict[str, Any], audience: str, place: str, names: Mapping[int, str]) -> str:
    audience_id = int(audience)
    if audience_id not in names:
        raise EditRefused("This audience has no visitor any more, so it can't be picked.")
    items = _group(tree, place)["items"]
    if {"audience_id": audience_id} in items:
        raise EditRefused(f"“{names[audience_id]}” is in this group already.")
    items.append({"audience_id": audience_id})
    return f"Added “{names[audience_id]}” to the rule."


def _add_group(tree: dict[str, Any], place: str, _: Mapping[int, str]) -> str:
    group = _group(tree, place)
    group["items"].append({"op": "or" if group["op"] == "and" else "and", "items": []})
    return "Added a group to the rule. What you add next goes into it."


def _set_op(tree: dict[str, Any], op: str, place: str, _: Mapping[int, str]) -> str:
    _group(tree, place)["op"] = op
    return {"and": "AND: in all of these.", "or": "OR: in at least one of these.", "not": "NOT: in none of these."}[op]


def _remove(tree: dict[str, Any], place: str, names: Mapping[int, str]) -> str:
    around, position = _around(tree, place)
    return f"Removed {_called(around['items'].pop(position), names)} from the rule."


def _move(tree: dict[str, Any], source: str, place: str, names: Mapping[int, str]) -> str:
    if f"{place}.".startswith(f"{source}."):
        raise EditRefused("A group can't be moved into itself.")
    around, position = _around(tree, source)
    target, item = _group(tree, place), around["items"][position]
    if target is not around and "audience_id" in item and item in target["items"]:
        raise EditRefused(f"{_called(item, names)} is in this group already.")
    del around["items"][position]
    target["items"].append(item)
    return f"Moved {_called(item, names)}."


_EDITS: dict[str, Any] = {"add": _add, "group": _add_group, "op": _set_op, "remove": _remove, "move": _move}


def _steps(place: str) -> list[int]:
    steps = [int(step) for step in place.split(".")] if place else []
    if any(step < 0 for step in steps):
        raise ValueError(place)
    return steps


def _item(tree: dict[str, Any], steps: list[int]) -> dict[str, Any]:
    for step in steps:
        tree = tree["items"][step]
    return tree


def _group(tree: dict[str, Any], place: str) -> dict[str, Any]:
    found = _item(tree, _steps(place))
    if "items" not in found:
        raise ValueError(place)
    return found


def _around(tree: dict[str, Any], place: str) -> tuple[dict[str, Any], int]:
    """(the group that holds the item of a place, its position there)"""
    *around, position = _steps(place)
    group = _item(tree, around)
    _ = group["items"][position]
    return group, position


def _called(item: dict[str, Any], names: Mapping[int, str]) -> str:
    if "items" in item:
        return "the group"
    audience_id: int = item["audience_id"]
    return f"“{names[audience_id]}”" if audience_id in names else f"audience {audience_id}"


def last_group(rule: Rule, place: str, edit: str) -> str:
    """Where the next audience goes: into a group just made, else where the person pointed, else the outermost one."""
    tree: dict[str, Any] = rule.model_dump()
    if edit.startswith("group:"):
        around = edit.partition(":")[2]
        position = len(_group(tree, around)["items"]) - 1
        return f"{around}.{position}" if around else str(position)
    try:
        _group(tree, place)
    except (KeyError, ValueError, IndexError):
        return ""
    return place if not edit.startswith(("remove:", "move:")) else ""
