"""A visitor's rows as the SDKs read them: pure functions of what Redis holds and of the time."""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import TypedDict

from audience_core.domain.members import decode_member
from audience_core.redis.catalog import Catalog

DEFAULT_PARTNER = "mparticle"
LEFT_SHOWN_MS = 3_600_000
EXPIRES_IN_S = 30 * 86_400
_INT32_MAX = 2**31 - 1
_RECEIVED_FIELD = "r"

SavedValues = Callable[[AbstractSet[int], Mapping[int, int], int], dict[str, str]]
"""(audiences that a visitor is in, audience → when it last changed in ms, now in ms) → segment of a row → value"""


class SegmentRow(TypedDict):
    """One row; every field is one that an SDK reads. `expiration` is in seconds since the epoch, an int32."""

    visitor_id: str
    segment: str
    value: str
    expiration: int
    partner: str


def is_shown(catalog: Catalog, audience_id: int, epoch: int) -> bool:
    """Whether a membership of this epoch may be seen: its subscription is the present one and is active.

    An audience that the catalog has never met is one whose subscription was lost or is still on its way.
    """
    state = catalog.get(audience_id)
    if state is None:
        return epoch == 0
    return state["status"] == "ACTIVE" and state["epoch"] == epoch


def shown_members(members: Iterable[str], catalog: Catalog) -> dict[int, str]:
    """Audience id → member, of those that may be seen."""
    found: dict[int, str] = {}
    for member in members:
        audience_id, epoch = decode_member(member)
        if is_shown(catalog, audience_id, epoch):
            found[audience_id] = member
    return found


def shown_exits(guards: Mapping[str, str], catalog: Catalog) -> dict[int, int]:
    """Audience id → time of the exit in ms, of exits that may be seen and that a guard still remembers."""
    found: dict[int, int] = {}
    for member, guard in guards.items():
        if member == _RECEIVED_FIELD or not guard.startswith("-"):
            continue
        audience_id, epoch = decode_member(member)
        if is_shown(catalog, audience_id, epoch):
            found[audience_id] = -int(guard)
    return found


def build_rows(
    visitor_id: str,
    members: Iterable[str],
    guards: Mapping[str, str],
    catalog: Catalog,
    *,
    partner: str,
    now_ms: int,
    saved: SavedValues | None = None,
) -> list[SegmentRow]:
    """Rows of a visitor, ordered by audience id: those they are in, and those left within the last hour.

    A row with another value ends a membership in SDKs whose visitor object lives on; a missing row does not.
    The rows of saved segments come last; `saved` gives them, out of the audiences and of when these changed.
    """
    exits, present = shown_exits(guards, catalog), shown_members(members, catalog)
    audiences = dict.fromkeys(present, "member")
    for audience_id, exited_at in exits.items():
        if now_ms - exited_at < LEFT_SHOWN_MS:
            audiences.setdefault(audience_id, "left")
    values = {str(audience_id): audiences[audience_id] for audience_id in sorted(audiences)}
    if saved is not None:
        entered = {audience_id: int(guards[member]) for audience_id, member in present.items() if member in guards}
        values |= saved(present.keys(), exits | entered, now_ms)
    expiration = min(now_ms // 1000 + EXPIRES_IN_S, _INT32_MAX)
    return [
        {
            "visitor_id": visitor_id,
            "segment": segment,
            "value": value,
            "expiration": expiration,
            "partner": partner,
        }
        for segment, value in values.items()
    ]
