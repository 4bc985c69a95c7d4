"""Judges a membership message profile by profile and turns it into records."""

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from pydantic import ValidationError

from audience_core.change_writer import Change, ChangeWriter
from audience_core.domain.identities import hmac_of_profile_identity
from audience_core.domain.records import MembershipAction
from audience_core.domain.subscriptions import epoch_of_change
from audience_core.kafka.producer import Outgoing
from audience_core.observability import metrics
from audience_core.redis.catalog import Catalog
from ingest_gateway.firehose import explain, read_identity, read_item, read_profile
from ingest_gateway.outgoing import MAX_ITEMS, MAX_LETTERS, MAX_PARTS, Records, without_secrets

MAX_AHEAD_MS = 86_400_000
_EPOCH_DIGITS = 10
_IDENTITY_FIELDS = ("user_identities", "device_identities", "partner_identities")
_ACTIONS: dict[str, MembershipAction] = {"add": "ENTER", "delete": "EXIT"}


class Context(NamedTuple):
    """What the profiles of one message share. Times are milliseconds."""

    account: str
    request_id: str
    occurred_at: int
    now: int
    catalog: Catalog
    pepper: bytes | None
    """None when identities are not to be indexed"""


_counts: Any = partial(defaultdict, int)


@dataclass(slots=True)
class Reading:
    """What came of a message."""

    records: list[Outgoing] = field(default_factory=list)
    changes: int = 0
    enters: int = 0
    """those of the changes that are no exits"""
    dead_letters: int = 0
    """profiles and audiences that are broken"""
    letters: int = 0
    """records about them"""
    left_out: dict[str, int] = field(default_factory=_counts)
    """reason → those that no record is about"""
    unsubscribed: int = 0
    """changes dropped because the catalog in memory says that the audience is removed"""
    received: dict[tuple[int, MembershipAction], int] = field(default_factory=_counts)
    """(audience id, action) → changes"""
    refused: dict[str, int] = field(default_factory=_counts)
    """reason → profiles, audiences or changes that came to nothing"""

    def count(self, changes: list[Change]) -> None:
        """These changes become records."""
        self.changes += len(changes)
        for audience_id, _, action in changes:
            self.received[audience_id, action] += 1
            self.enters += action == "ENTER"


def parts_in(profiles: list[Any]) -> int:
    """Profiles, audiences and identities that there are to read, broken ones included, and whatever else is listed."""
    parts = len(profiles)
    for profile in profiles:
        if isinstance(profile, dict):
            for listed in profile.values():
                if isinstance(listed, list):
                    parts += len(listed)
    return parts


def read_profiles(profiles: list[Any], context: Context, records: Records) -> Reading:
    """Judge each profile alone: a bad one becomes a dead letter, its neighbours records."""
    reading = Reading()
    if context.occurred_at > context.now + MAX_AHEAD_MS:  # perhaps beyond what a record can hold
        for raw in profiles:
            _reject(reading, context, records, "occurred_in_future", "timestamp_ms: over a day ahead", raw)
    else:
        writer = records.writer(context.account, context.occurred_at, context.now, context.request_id)
        for raw in profiles:
            _read_one(raw, writer, context, records, reading)
    if reading.left_out:
        reading.records.append(_left_out(reading, context, records))
    return reading


def _read_one(raw: Any, writer: ChangeWriter, context: Context, records: Records, reading: Reading) -> None:
    try:
        mpid, audiences = read_profile(raw)
    except ValidationError as error:
        _reject(reading, context, records, "profile_malformed", error, raw)
        return
    if not mpid:
        _reject(reading, context, records, "mpid_missing", "mpid: absent or empty", raw)
        return
    changes = _changes(mpid, audiences, context, records, reading)
    if changes:
        identities = _identities(raw, context)
        most = max(len(changes), len(identities))
        if most <= MAX_PARTS:
            reading.records.append(records.change(writer, mpid, identities, changes))
        else:
            parts = [slice(first, first + MAX_PARTS) for first in range(0, most, MAX_PARTS)]
            reading.records += [records.change(writer, mpid, identities[part], changes[part]) for part in parts]
        reading.count(changes)


def _changes(mpid: str, audiences: list[Any], context: Context, records: Records, reading: Reading) -> list[Change]:
    changes: list[Change] = []
    broken: list[Any] = []
    why: ValidationError | str = ""
    for raw in audiences:
        try:
            audience_id, action, echo = read_item(raw)
        except ValidationError as error:
            why = why or error
            broken.append(raw)
            continue
        if action == "attribute_update":
            metrics.GATEWAY_SKIPPED.labels("attribute_update").inc()
            continue
        known = context.catalog.get(audience_id)
        epoch = epoch_of_change(known, echoed=_echoed(echo) if echo else None, occurred_at=context.occurred_at)
        if epoch is None:
            reading.unsubscribed += 1
            reading.refused["audience_removed"] += 1
            metrics.GATEWAY_SKIPPED.labels("audience_removed").inc()
            continue
        changes.append((audience_id, epoch, _ACTIONS[action]))
    if broken:
        kept = {"mpid": mpid, "audiences": broken[:MAX_ITEMS]}
        _reject(reading, context, records, "audience_malformed", why, kept, count=len(broken))
    return changes


def _echoed(text: str) -> int | None:
    # a long row of digits is no epoch, and Python refuses to read a very long one
    known = len(text) <= _EPOCH_DIGITS and text.isascii() and text.isdigit() and int(text) < 2**31
    return int(text) if known else None


def _identities(profile: dict[str, Any], context: Context) -> list[str]:
    """HMACs, each once. What can't be read as an identity can't be erased by it either, and is left out."""
    if context.pepper is None:
        return []
    found: dict[str, None] = {}
    for name in _IDENTITY_FIELDS:
        listed = profile.get(name)
        if not isinstance(listed, list):
            continue
        for raw in listed:
            try:
                kind, encoding, value = read_identity(raw)
            except ValidationError:
                metrics.GATEWAY_SKIPPED.labels("identity_malformed").inc()
                continue
            found[hmac_of_profile_identity(context.pepper, context.account, kind, encoding, value)] = None
    return list(found)


def _reject(
    reading: Reading,
    context: Context,
    records: Records,
    reason: str,
    why: ValidationError | str,
    raw: Any,
    *,
    count: int = 1,
) -> None:
    """Put a profile, or `count` audiences of it, aside; `why` tells of the first."""
    reading.dead_letters += count
    reading.refused[reason] += count
    metrics.DEAD_LETTERS.labels(reason).inc(count)
    if reading.letters == MAX_LETTERS:
        reading.left_out[reason] += count
        return
    reading.letters += 1
    detail = why if isinstance(why, str) else explain(why)
    letter = records.dead_letter(
        account=context.account,
        reason=reason,
        detail=detail if count == 1 else f"{detail} (the first of {count} of this profile)",
        kind="PROFILE",
        request_id=context.request_id,
        occurred_at=context.occurred_at,
        now=context.now,
        payload=without_secrets(raw),
    )
    reading.records.append(letter)


def _left_out(reading: Reading, context: Context, records: Records) -> Outgoing:
    """The dead letter that counts what no other one is about."""
    return records.dead_letter(
        account=context.account,
        reason="left_out",
        detail=f"{sum(reading.left_out.values())} more of this message, by reason in the payload",
        kind="MESSAGE",
        request_id=context.request_id,
        occurred_at=context.occurred_at,
        now=context.now,
        payload=dict(reading.left_out),
    )
