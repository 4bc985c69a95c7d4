"""The apply script's rule a second time, in plain Python: the oracle that generated histories are compared with."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from audience_core.domain.members import encode_guard, encode_member
from audience_core.domain.records import IdentitiesErased, MembershipChange, VisitorErased

Visitor = tuple[str, str]
"""(account, MPID)"""


@dataclass
class ShardState:
    """State of one shard as a pure function of its log. Times are milliseconds."""

    window_ms: int
    suppression_ms: int
    members: dict[Visitor, set[str]] = field(default_factory=lambda: defaultdict(set))
    guards: dict[Visitor, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    last_received: dict[Visitor, int] = field(default_factory=dict)
    suppressed: dict[Visitor, int] = field(default_factory=dict)
    identities: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def change(self, record: MembershipChange) -> None:
        """Apply one profile's changes in array order."""
        visitor = (record["account"], record["mpid"])
        received = record["received_at"]
        erased_at = self.suppressed.get(visitor)
        if erased_at is not None:
            if received - erased_at <= self.suppression_ms:
                return
            del self.suppressed[visitor]
        last = self.last_received.get(visitor)
        if last is not None and received - last > self.window_ms:
            self.guards.pop(visitor, None)
        self.last_received[visitor] = received if last is None else max(received, last)
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
        self._erase((record["account"], record["mpid"]), record["received_at"])

    def erase_identities(self, record: IdentitiesErased) -> None:
        """Forget every visitor that came with one of the identities."""
        for identity in record["identities"]:
            for mpid in sorted(self.identities.get((record["account"], identity), set())):
                self._erase((record["account"], mpid), record["received_at"])

    def _set(self, visitor: Visitor, member: str, *, present: bool) -> None:
        members = self.members[visitor]
        if present == (member in members):
            return
        (members.add if present else members.discard)(member)
        self.counts[visitor[0], member] += 1 if present else -1

    def _erase(self, visitor: Visitor, received: int) -> None:
        for member in self.members.pop(visitor, set()):
            self.counts[visitor[0], member] -= 1
        self.guards.pop(visitor, None)
        self.last_received.pop(visitor, None)
        for (account, _), mpids in self.identities.items():
            if account == visitor[0]:
                mpids.discard(visitor[1])
        self.suppressed[visitor] = max(received, self.suppressed.get(visitor, received))
