"""What the segment builder shows: a draft, which lives in the page's address until it is saved."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException

from segment_api.accounts import Populated
from segment_api.console.rule_edits import EMPTY
from segment_api.rules import RULE, Group, Rule
from segment_api.segment_routes import ListedSegment

SHOWN = 60
"""Audiences that are offered at a time; the search finds the others."""


@dataclass(frozen=True)
class Draft:
    """A segment while it is edited. `target`: place of the group that a button adds to."""

    name: str
    rule: Rule
    served: bool
    target: str
    q: str
    mpid: str

    @property
    def rule_text(self) -> str:
        """The rule as JSON, as an address or a hidden field carries it."""
        return self.rule.model_dump_json()

    def fields(self) -> dict[str, str]:
        """Fields of an address that shows this draft again."""
        served = "1" if self.served else "0"
        kept = {"name": self.name, "target": self.target, "q": self.q, "mpid": self.mpid}
        return {"rule": self.rule_text, "served": served, **kept}


def read_draft(fields: Mapping[str, str], saved: ListedSegment | None) -> Draft:
    """Read a draft out of an address or a form; what it lacks is as it was saved. Raises HTTPException 422."""
    text = fields.get("rule")
    try:
        rule = RULE.validate_json(text) if text else (saved.rule if saved else EMPTY)
    except ValidationError:
        raise HTTPException(422, "The rule can't be read. Go back and try again.") from None
    return Draft(
        name=fields.get("name", saved.name if saved else "").strip(),
        rule=rule,
        served=fields["served"] == "1" if "served" in fields else (saved.served if saved else False),
        target=fields.get("target", ""),
        q=fields.get("q", "").strip(),
        mpid=fields.get("mpid", "").strip(),
    )


def names_of(audiences: Populated) -> dict[int, str]:
    """What each audience of the catalog is called; one without a name by its id."""
    return {a: state["name"] or f"Audience {a}" for a, state in audiences.catalog.items()}


def pickable(audiences: Populated, q: str) -> tuple[list[dict[str, Any]], int]:
    """(audiences to offer, the fullest first; how many there are in all)"""
    names = names_of(audiences)
    found = [
        {"id": a, "name": names[a], "count": count}
        for a, count in sorted(audiences.counts.items(), key=lambda entry: (-entry[1], entry[0]))
        if q.casefold() in names[a].casefold() or q == str(a)
    ]
    return found[:SHOWN], len(found)


def rule_view(rule: Group, audiences: Populated, place: str = "") -> dict[str, Any]:
    """The rule as the page draws it: each item with its place, and audiences with name, count and state."""
    items: list[dict[str, Any]] = []
    names = names_of(audiences)
    for position, item in enumerate(rule.items):
        at = f"{place}.{position}" if place else str(position)
        if isinstance(item, Group):
            items.append(rule_view(item, audiences, at))
            continue
        known = audiences.catalog.get(item.audience_id)
        gone = "removed" if known is None or known["status"] != "ACTIVE" else "empty"
        items.append(
            {
                "place": at,
                "name": names.get(item.audience_id, f"Audience {item.audience_id}"),
                "count": audiences.counts.get(item.audience_id, 0),
                "gone": None if item.audience_id in audiences.counts else gone,
            }
        )
    return {"place": place, "op": rule.op, "group": items}
