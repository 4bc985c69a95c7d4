"""A shard that is being read, and what is believed of its log."""

from dataclasses import dataclass

from audience_core.errors import ShardRefused
from audience_core.observability.logging import get_logger
from audience_core.redis.shard_store import StoredOffset

log = get_logger()
OUTSIDE_S = 20.0
"""for how long a log is said not to hold a position before that is believed: an election is over by then"""
_OUTSIDE_PAUSE_S = 30.0  # a record that is really missing is missed again about once a second


@dataclass
class Shard:
    """A shard that is being read."""

    number: int
    stored: int | None
    """the offset that Redis is believed to hold once it has applied all that it was sent, None for nothing yet"""
    position: int
    """offset of the record that comes next"""
    hole: int | None = None
    """where the log went on, when it was read with a hole before"""
    outside_since: float | None = None
    """monotonic time since which the log is said not to hold the position"""
    outside_at: float = 0.0
    """monotonic time at which it was said last"""

    def continues_at(self, offset: int) -> bool:
        """Whether a batch that begins there leaves nothing out. The log has holes only where records were not ours (a
        transaction's marks); so one is believed when it is still there after reading again."""
        if offset == self.position or self.position < offset == self.hole:
            self.hole = None
            return True
        self.hole = offset
        return False

    def outside(self, now: float) -> float:
        """Note that the log is said once more not to hold the position; return for how long it was, in seconds."""
        if self.outside_since is None or now - self.outside_at > _OUTSIDE_PAUSE_S:
            self.outside_since = now
        self.outside_at = now
        return now - self.outside_since


def locate(number: int, stored: StoredOffset | None, low: int, topic_id: str, *, accept_partial: bool) -> Shard:
    """The shard as it is to be read on: from where Redis stands, or with `accept_partial` from where the log begins.

    Raises ShardRefused when the log does not reach back to there (`low` is its first offset), or is another topic's.
    """
    if stored is None:
        if low > 0 and not accept_partial:
            raise ShardRefused(
                f"shard {number}: Redis holds nothing and the log starts at offset {low}, so what came before is "
                "gone; restore a Redis backup, or start with --accept-partial-rebuild"
            )
        _tell_skipped(number, 0, low)
        return Shard(number, None, low)
    if stored.topic_id != topic_id:
        raise ShardRefused(
            f"shard {number}: its state was read from topic id {stored.topic_id}, the topic now has id "
            f"{topic_id}; it was recreated. Point the worker at the old topic, or run "
            "`audience-stream reset-offsets` to go on with this one"
        )
    if stored.offset < low and not accept_partial:
        raise ShardRefused(
            f"shard {number}: Redis stands at offset {stored.offset}, the log starts at {low}; retention deleted "
            "what lies between. Restore a newer backup, run `audience-stream reset-offsets` again if you just did, "
            "or start with --accept-partial-rebuild"
        )
    _tell_skipped(number, stored.offset, low)
    return Shard(number, stored.offset, max(stored.offset, low))


def _tell_skipped(number: int, first: int, following: int) -> None:
    if first < following:
        log.warning("records_skipped", shard=number, first=first, following=following)
