"""A shard that is being read, and what is believed of its log."""

from dataclasses import dataclass

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
