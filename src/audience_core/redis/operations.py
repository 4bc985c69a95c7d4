"""Records of a shard's log as arguments of the apply script."""

from audience_core.domain.members import encode_member, time_of_change
from audience_core.domain.records import IdentitiesErased, MembershipChange, VisitorErased

_MOST = 1000  # arguments of one operation: Lua's stack holds some thousand


class Operations:
    """Collects the operations of one batch in log order; `arguments` is what the script takes (see `apply.lua`)."""

    def __init__(self) -> None:
        self.arguments: list[str | int] = []
        self._account: str | None = None

    def change(self, record: MembershipChange) -> None:
        """One profile's changes. Neighbours of one direction become one operation, whose members must differ."""
        self._enter(record["account"])
        mpid, received_at, changes = record["mpid"], record["received_at"], record["changes"]
        time = time_of_change(record["occurred_at"])
        if record["identities"]:
            self._identify(record, time)
        if len(changes) == 1:
            change = changes[0]
            member = encode_member(change["audience_id"], change["epoch"])
            entering = change["action"] == "ENTER"
            self.arguments += ("E" if entering else "L", mpid, received_at, time if entering else -time, 1, member)
        else:
            self._change_many(record, time)

    def visitor_erased(self, record: VisitorErased, offset: int) -> None:
        """The erasure of one visitor, which stands at an offset of the shard's log."""
        self._enter(record["account"])
        self.arguments += ("V", record["mpid"], record["received_at"], record["request_id"], offset)

    def identities_erased(self, record: IdentitiesErased, offset: int) -> None:
        """An erasure by identities, which stands at an offset of the shard's log."""
        self._enter(record["account"])
        identities = record["identities"]
        self.arguments += ("I", record["received_at"], record["request_id"], offset, len(identities), *identities)

    def _enter(self, account: str) -> None:
        if account != self._account:
            self.arguments += ("A", account)
            self._account = account

    def _identify(self, record: MembershipChange, time: int) -> None:
        identities = record["identities"]
        for first in range(0, len(identities), _MOST):
            if first > 0:
                self._run(record, "ENTER", time, {})  # takes the identities before
            part = identities[first : first + _MOST]
            self.arguments += ("J", record["mpid"], record["received_at"], len(part), *part)

    def _change_many(self, record: MembershipChange, time: int) -> None:
        changes = record["changes"]
        action = changes[0]["action"] if changes else "ENTER"
        members: dict[str, None] = {}
        for change in changes:
            member = encode_member(change["audience_id"], change["epoch"])
            if change["action"] != action or member in members or len(members) == _MOST:
                self._run(record, action, time, members)
                action, members = change["action"], {}
            members[member] = None
        self._run(record, action, time, members)

    def _run(self, record: MembershipChange, action: str, time: int, members: dict[str, None]) -> None:
        entering = action == "ENTER"
        signed = time if entering else -time
        head = ("E" if entering else "L", record["mpid"], record["received_at"], signed, len(members))
        self.arguments += (*head, *members)
