"""How an audience of an epoch, and the time and direction of a change, are written in Redis."""

from datetime import UTC, datetime

from audience_core.domain.records import MembershipAction


def encode_member(audience_id: int, epoch: int) -> str:
    """Name of an audience inside a visitor's set: a bare integer while the epoch is 0 keeps the set an intset."""
    return str(audience_id) if epoch == 0 else f"{audience_id}@{epoch}"


def decode_member(member: str) -> tuple[int, int]:
    """Inverse of encode_member: (audience id, epoch)."""
    if "@" not in member:
        return int(member), 0
    audience_id, _, epoch = member.partition("@")
    return int(audience_id), int(epoch or 0)


def time_of_change(occurred_at: int) -> int:
    """Time that a guard holds. Zero has no sign, and nothing in this domain happened before 1970: such times count as
    the first millisecond."""
    return max(occurred_at, 1)


def encode_guard(action: MembershipAction, occurred_at: int) -> str:
    """Time of the last change with its direction as the sign."""
    time = time_of_change(occurred_at)
    return str(time if action == "ENTER" else -time)


def iso_time(milliseconds: int) -> str:
    """ISO-8601 in UTC with milliseconds, as every JSON answer writes times."""
    text = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
