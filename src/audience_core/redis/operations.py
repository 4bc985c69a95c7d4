"""Records of a shard's log as arguments of the apply script."""

from audience_core.change_reader import Change
from audience_core.domain.members import time_of_change
from audience_core.domain.mpids import pack_mpid
from audience_core.domain.records import IdentitiesErased, VisitorErased

_MOST = 1000  # identities of one operation: Lua's stack holds some thousand


class Operations:
    """Collects the operations of one batch in log order; `arguments` is what the script takes (see `apply.lua`)."""

    def __init__(self) -> None:
        self.arguments: list[str | bytes | int] = []
        self._account: bytes | None = None

    def change(self, change: Change) -> None:
        """One profile's changes."""
        account, mpid, occurred_at, received_at, identities, runs = change
        visitor = pack_mpid(mpid)
        if account != self._account:
            self._enter(account)
        if identities:
            self._identify(change, visitor)
        time = time_of_change(occurred_at)
        for action, members in runs:
            if action == "ENTER":
                self.arguments += ("E", visitor, received_at, time, len(members), *members)
            else:
                self.arguments += ("L", visitor, received_at, -time, len(members), *members)

    def visitor_erased(self, record: VisitorErased, offset: int) -> None:
        """The erasure of one visitor, which stands at an offset of the shard's log."""
        self._enter(record["account"].encode())
        self.arguments += ("V", pack_mpid(record["mpid"]), record["received_at"], record["request_id"], offset)

    def identities_erased(self, record: IdentitiesErased, offset: int) -> None:
        """An erasure by identities, which stands at an offset of the shard's log."""
        self._enter(record["account"].encode())
        identities = record["identities"]
        self.arguments += ("I", record["received_at"], record["request_id"], offset, len(identities), *identities)

    def _enter(self, account: bytes) -> None:
        if account != self._account:
            self.arguments += ("A", account)
            self._account = account

    def _identify(self, change: Change, visitor: str) -> None:
        """What the next operation is to take along; it holds so many, so further ones get operations of their own."""
        identities = change.identities
        for first in range(0, len(identities), _MOST):
            if first > 0:
                time = time_of_change(change.occurred_at)
                self.arguments += ("E", visitor, change.received_at, time, 0)
            part = identities[first : first + _MOST]
            self.arguments += ("J", visitor, change.received_at, len(part), *part)
