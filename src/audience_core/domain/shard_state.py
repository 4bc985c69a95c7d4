"""The apply script's rule a second time, in plain Python: the oracle that generated histories are compared with."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from audience_core.domain.members import encode_guard, encode_member
from audience_core.domain.records import IdentitiesErased, MembershipChange, VisitorErased

Visitor = tuple[str, str]
"""(account, MPID)"""


def guard_grain(window_ms: int) -> int:
    """How far a visitor's kept received_at may lag behind their newest record, ms.

    Guards live longer by it, so that they never end before the ordering window; in exchange it is rarely written.
    """
    return window_ms // 24


@dataclass
class ShardState:
    """State of one shard as a pure function of its log. Times are milliseconds."""

    window_ms: int
    suppression_ms: int
    members: dict[Visitor, set[str]] = field(default_factory=lambda: defaultdict(set))
    guards: dict[Visitor, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    last_received: dict[Visitor, int] = field(default_factory=dict)
    """received_at of a recent record, not older than the newest by more than the grain"""
    suppressed: dict[Visitor, int] = field(default_factory=dict)
    identities: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    erased_identities: dict[tuple[str, str], int] = field(default_factory=dict)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    receipts: list[tuple[str, str, int, int, int]] = field(default_factory=list)
    """(account, request id, visitors, memberships, identities) of each erasure"""

    def change(self, record: MembershipChange) -> None:
        """Apply one profile's changes in array order."""
        visitor = (record["account"], record["mpid"])
        received = record["received_at"]
        for identity in record["identities"]:
            at = self.erased_identities.get((record["account"], identity))
            if at is not None and received <= at:  # it was on its way when the person was erased
                self._erase(visitor, at)
                return
        erased_at = self.suppressed.get(visitor)
        last, grain = self.last_received.get(visitor), guard_grain(self.window_ms)
        if last is None and erased_at is not None and received - erased_at <= self.suppression_ms:
            return  # one who came back after the suppression stays, whatever overtakes what
        if last is None or received - last > grain:
            self.last_received[visitor] = received
        if last is not None and received - last > self.window_ms + grain:
            self.guards.pop(visitor, None)
        for change in record["changes"]:
            member = encode_member(change["audience_id"], change["epoch"])
            signed = int(encode_guard(change["action"], record["occurred_at"]))
            if abs(self.guards[visitor].get(member, 0)) > abs(signed):
                continue
            self.guards[visitor][member] = signed
            self._set(visitor, member, present=signed > 0)
        for identity in record["identities"]:
            self.identities[record["account"], identity].add(record["mpid"])

    def erase_visitor(self, record: VisitorErased) -> None:
        """Forget a visitor and drop what comes later."""
        deleted = self._erase((record["account"], record["mpid"]), record["received_at"])
        self.receipts.append((record["account"], record["request_id"], *deleted))

    def erase_identities(self, record: IdentitiesErased) -> None:
        """Forget every visitor that came with one of the identities."""
        account, received = record["account"], record["received_at"]
        deleted = Counter[int]()
        for identity in record["identities"]:
            for mpid in sorted(self.identities.get((account, identity), set())):
                deleted.update(dict(enumerate(self._erase((account, mpid), received))))
            key = (account, identity)
            self.erased_identities[key] = max(received, self.erased_identities.get(key, received))
        self.receipts.append((account, record["request_id"], deleted[0], deleted[1], deleted[2]))

    def _set(self, visitor: Visitor, member: str, *, present: bool) -> None:
        members = self.members[visitor]
        if present == (member in members):
            return
        (members.add if present else members.discard)(member)
        self.counts[visitor[0], member] += 1 if present else -1

    def _erase(self, visitor: Visitor, received: int) -> tuple[int, int, int]:
        members = self.members.pop(visitor, set())
        for member in members:
            self.counts[visitor[0], member] -= 1
        self.guards.pop(visitor, None)
        known_by = [
            mpids for (account, _), mpids in self.identities.items() if account == visitor[0] and visitor[1] in mpids
        ]
        for mpids in known_by:
            mpids.discard(visitor[1])
        was_known = self.last_received.pop(visitor, None) is not None or bool(members or known_by)
        self.suppressed[visitor] = max(received, self.suppressed.get(visitor, received))
        return int(was_known), len(members), len(known_by)
