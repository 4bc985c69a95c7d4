"""Judges a membership message profile by profile and turns it into records."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from audience_core.domain.identities import hmac_of_profile_identity
from audience_core.domain.records import AudienceChange, MembershipAction, MembershipChange
from audience_core.domain.subscriptions import epoch_of_change
from audience_core.kafka.producer import Outgoing
from audience_core.observability import metrics
from audience_core.redis.catalog import Catalog
from ingest_gateway.firehose import AudienceItem, Identity, Profile, explain
from ingest_gateway.outgoing import MAX_ITEMS, MAX_LETTERS, MAX_PARTS, Records, without_secrets
from ingest_gateway.registration import EPOCH_SETTING

MAX_AHEAD_MS = 86_400_000
_EPOCH_DIGITS = 10
_IDENTITY_FIELDS = ("user_identities", "device_identities", "partner_identities")
_LISTS = ("audiences", *_IDENTITY_FIELDS)
_ACTIONS: dict[str, MembershipAction] = {"add": "ENTER", "delete": "EXIT"}


@dataclass(frozen=True)
class Context:
    """What the profiles of one message share. Times are milliseconds."""

    account: str
    request_id: str
    occurred_at: int
    now: int
    catalog: Catalog
    pepper: bytes | None
    """None when identities are not to be indexed"""


@dataclass
class Reading:
    """What came of a message."""

    records: list[Outgoing] = field(default_factory=list)
    changes: int = 0
    dead_letters: int = 0
    """profiles and audiences that are broken"""
    letters: int = 0
    """records about them"""
    left_out: Counter[str] = field(default_factory=Counter)
    """reason → those that no record is about"""
    unsubscribed: int = 0
    """changes dropped because the catalog in memory says that the audience is removed"""
    received: Counter[tuple[int, MembershipAction]] = field(default_factory=Counter)
    """(audience id, action) → changes"""
    refused: Counter[str] = field(default_factory=Counter)
    """reason → profiles, audiences or changes that came to nothing"""


def parts_in(profiles: list[Any]) -> int:
    """Profiles, audiences and identities that there are to read, broken ones included."""
    lists = (profile.get(name) for profile in profiles if isinstance(profile, dict) for name in _LISTS)
    return len(profiles) + sum(len(listed) for listed in lists if isinstance(listed, list))


def read_profiles(profiles: list[Any], context: Context, records: Records) -> Reading:
    """Judge each profile alone: a bad one becomes a dead letter, its neighbours records."""
    reading = Reading()
    for raw in profiles:
        if context.occurred_at > context.now + MAX_AHEAD_MS:
            _reject(reading, context, records, "occurred_in_future", "timestamp_ms: over a day ahead", raw)
            continue
        try:
            profile = Profile.model_validate(raw)
        except ValidationError as error:
            _reject(reading, context, records, "profile_malformed", error, raw)
            continue
        if not profile.mpid:
            _reject(reading, context, records, "mpid_missing", "mpid: absent or empty", raw)
            continue
        _read_profile(profile, profile.mpid, context, records, reading)
    if reading.left_out:
        reading.records.append(_left_out(reading, context, records))
    return reading


def _read_profile(profile: Profile, mpid: str, context: Context, records: Records, reading: Reading) -> None:
    changes = list(_changes(profile, context, records, reading))
    if not changes:
        return
    identities = _identities(profile, context)
    for first in range(0, max(len(changes), len(identities)), MAX_PARTS):
        record = MembershipChange(
            account=context.account,
            mpid=mpid,
            occurred_at=context.occurred_at,
            received_at=context.now,
            request_id=context.request_id,
            identities=identities[first : first + MAX_PARTS],
            changes=changes[first : first + MAX_PARTS],
        )
        reading.records.append(records.change(record))
    reading.changes += len(changes)
    for change in changes:
        reading.received[change["audience_id"], change["action"]] += 1


def _changes(profile: Profile, context: Context, records: Records, reading: Reading) -> Iterator[AudienceChange]:
    broken: list[Any] = []
    why: ValidationError | str = ""
    for raw in profile.audiences:
        try:
            item = AudienceItem.model_validate(raw)
        except ValidationError as error:
            why = why or error
            broken.append(raw)
            continue
        if item.action == "attribute_update":
            metrics.GATEWAY_SKIPPED.labels("attribute_update").inc()
            continue
        epoch = epoch_of_change(
            context.catalog.get(item.audience_id), echoed=_echoed(item), occurred_at=context.occurred_at
        )
        if epoch is None:
            reading.unsubscribed += 1
            reading.refused["audience_removed"] += 1
            metrics.GATEWAY_SKIPPED.labels("audience_removed").inc()
            continue
        yield AudienceChange(audience_id=item.audience_id, epoch=epoch, action=_ACTIONS[item.action])
    if broken:
        kept = {"mpid": profile.mpid, "audiences": broken[:MAX_ITEMS]}
        _reject(reading, context, records, "audience_malformed", why, kept, count=len(broken))


def _echoed(item: AudienceItem) -> int | None:
    text = item.audience_subscription_settings.get(EPOCH_SETTING, "")
    # a long row of digits is no epoch, and Python refuses to read a very long one
    known = len(text) <= _EPOCH_DIGITS and text.isascii() and text.isdigit() and int(text) < 2**31
    return int(text) if known else None


def _identities(profile: Profile, context: Context) -> list[str]:
    """HMACs, each once. What can't be read as an identity can't be erased by it either, and is left out."""
    if context.pepper is None:
        return []
    found: dict[str, None] = {}
    for name in _IDENTITY_FIELDS:
        listed = getattr(profile, name)
        for raw in listed if isinstance(listed, list) else []:
            try:
                identity = Identity.model_validate(raw)
            except ValidationError:
                metrics.GATEWAY_SKIPPED.labels("identity_malformed").inc()
                continue
            hashed = hmac_of_profile_identity(
                context.pepper, context.account, identity.type, identity.encoding, identity.value
            )
            found[hashed] = None
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
        detail=f"{reading.left_out.total()} more of this message, by reason in the payload",
        kind="MESSAGE",
        request_id=context.request_id,
        occurred_at=context.occurred_at,
        now=context.now,
        payload=dict(reading.left_out),
    )
