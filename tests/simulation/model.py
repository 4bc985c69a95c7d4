"""What must be true at the end, worked out from the whole log and from what senders were told.

It shares no rule with what it checks: no state is carried from record to record but who was erased when; the winner of
each membership is the greatest of its changes, found by looking at all of them.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from audience_core.errors import PoisonRecord
from audience_core.topics import CHANGES
from tests.simulation.plan import MPIDS, SHARDS
from tests.simulation.simulated_kafka import Broker
from tests.simulation.world import CODEC, SUPPRESSION_S, WINDOW_S

Membership = tuple[int, int]
"""(audience, epoch)"""


@dataclass
class Visitor:
    """A visitor at the end of the log."""

    members: set[Membership] = field(default_factory=set)
    emails: set[str] = field(default_factory=set)


@dataclass
class Logged:
    """A readable record of the changes topic."""

    shard: int
    offset: int
    kind: str
    record: dict[str, Any]


def logged(broker: Broker) -> list[Logged]:
    """Everything that can be read in the changes topic."""
    found = []
    for number in range(SHARDS):
        for record in broker.logs[CHANGES, number]:
            try:
                kind, content = CODEC.decode(record.body)
            except PoisonRecord:
                continue
            found.append(Logged(number, record.at, kind, content))
    return found


def visitors(log: list[Logged]) -> dict[tuple[int, str], Visitor]:
    """(shard, MPID) → visitor."""
    return {
        (shard, mpid): _visitor([entry for entry in log if entry.shard == shard and _concerns(entry, mpid)])
        for shard in range(SHARDS)
        for mpid in MPIDS
    }


def _concerns(entry: Logged, mpid: str) -> bool:
    return entry.kind == "IdentitiesErased" or entry.record["mpid"] == mpid


def _visitor(entries: list[Logged]) -> Visitor:
    life = _after_the_last_erasure(entries)
    received = [entry.record["received_at"] for entry in life]
    pauses = _pauses(received)
    greatest: dict[Membership, tuple[tuple[int, int, int, int], str]] = {}
    for number, entry in enumerate(life):
        for place, change in enumerate(entry.record["changes"]):
            order = (pauses[number], entry.record["occurred_at"], entry.offset, place)
            membership = (change["audience_id"], change["epoch"])
            greatest[membership] = max(greatest.get(membership, (order, "")), (order, change["action"]))
    return Visitor(
        members={membership for membership, (_, action) in greatest.items() if action == "ENTER"},
        emails={identity for entry in life for identity in entry.record["identities"]},
    )


def _pauses(received: list[int]) -> list[int]:
    """How many pauses lie before each record. A pause longer than the window forgets the times of what came before it,
    though not who is in what; it is measured from a receipt that may lag by the grain, and so may be longer by that."""
    window, pauses, kept = WINDOW_S * 1000, [0] * len(received), received[0] if received else 0
    grain = window // 24
    for number, at in enumerate(received):
        pauses[number] = (pauses[number - 1] if number else 0) + (at - kept > window + grain)
        if at - kept > grain:
            kept = at
    return pauses


def _after_the_last_erasure(entries: list[Logged]) -> list[Logged]:
    """Changes that count: after the last erasure that met the visitor, and late enough after it."""
    life: list[Logged] = []
    erased_at: int | None = None
    for number, entry in enumerate(entries):
        received = entry.record["received_at"]
        if entry.kind == "MembershipChange":
            if (in_flight := _erased_in_flight(entry, entries[:number])) is not None:
                life = []
                erased_at = in_flight if erased_at is None else max(erased_at, in_flight)
            elif erased_at is None or received > erased_at + SUPPRESSION_S * 1000:
                erased_at = None
                life.append(entry)
            continue
        named = set(entry.record.get("identities", ()))
        known = {identity for earlier in life for identity in earlier.record["identities"]}
        if entry.kind == "VisitorErased" or named & known:
            life = []
            erased_at = received if erased_at is None else max(erased_at, received)
    return life


def _erased_in_flight(change: Logged, before: list[Logged]) -> int | None:
    """When a person was erased whose change had been received by then, though it comes later in the log."""
    for identity in change.record["identities"]:
        erased: list[int] = [
            e.record["received_at"]
            for e in before
            if identity in e.record.get("identities", ()) and e.kind == "IdentitiesErased"
        ]
        if erased and change.record["received_at"] <= max(erased):
            return max(erased)
    return None


def subscriptions(sent: dict[int, list[str]]) -> dict[int, tuple[str, int]]:
    """Audience → (status, epoch), of those that were ever subscribed: each run of removes ends one epoch."""
    return {
        audience: (
            "REMOVED" if actions[-1] == "remove" else "ACTIVE",
            sum(
                action == "remove" and actions[number - 1 : number] != ["remove"]
                for number, action in enumerate(actions)
            ),
        )
        for audience, actions in sent.items()
        if actions
    }


def counts(known: dict[tuple[int, str], Visitor]) -> Counter[tuple[int, int, int]]:
    """(shard, audience, epoch) → visitors."""
    return Counter((shard, *membership) for (shard, _), visitor in known.items() for membership in visitor.members)


def listing(known: dict[tuple[int, str], Visitor], subscribed: dict[int, tuple[str, int]]) -> dict[str, int]:
    """Populated, subscribed audiences → visitors in their present epoch, as the listing names them."""
    totals: Counter[str] = Counter()
    for visitor in known.values():
        for audience, epoch in visitor.members:
            if subscribed.get(audience) == ("ACTIVE", epoch):
                totals[str(audience)] += 1
    return dict(totals)
