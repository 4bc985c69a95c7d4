"""Whether a worker makes progress, shard by shard: its loop tells, the probes ask from a thread of their own.

Dead is what a restart mends: a loop that hangs, or a shard that has unread records and stands still. Redis or Kafka
being away is neither: a new process would wait for them just the same, and its start would be one more rebalance.
"""

import time
from collections.abc import Callable, Iterable

from audience_core.errors import RetryableError

Ends = Callable[[list[int]], dict[int, int]]
"""Shards → offset after the last record of each that has a leader. Raises RetryableError."""


class Progress:
    """Where each assigned shard stands, and since when. `stuck_after` is in seconds."""

    def __init__(self, stuck_after: float, ends: Ends, clock: Callable[[], float] = time.monotonic) -> None:
        self._stuck_after = stuck_after
        self._ends = ends
        self._clock = clock
        self._turned = clock()
        self._standing: dict[int, tuple[int | None, float]] = {}
        self._behind: dict[int, tuple[int | None, float]] = {}
        self._waiting_for: str | None = None
        self._joined = False

    def joined(self, *, member: bool) -> None:
        """Note whether the group has given this worker its share, which may be none."""
        self._joined = member

    def turn(self) -> None:
        """Note that the loop has come round once more."""
        self._turned = self._clock()

    def stands(self, shard: int, offset: int | None) -> None:
        """Note a shard's next offset; None while it is assigned but not read yet."""
        self._standing[shard] = (offset, self._clock())

    def gone(self, shards: Iterable[int]) -> None:
        """Forget shards that the group took away."""
        for shard in shards:
            self._standing.pop(shard, None)

    def waits_for(self, reason: str | None) -> None:
        """Note what is waited for outside of this process, in words; None once it is there. Counts as a turn."""
        self.turn()
        if reason is None and self._waiting_for is not None:
            now = self._clock()  # standing still while it waited is no fault of the shards
            self._standing = {shard: (offset, now) for shard, (offset, _) in self._standing.items()}
        self._waiting_for = reason

    def dead(self) -> list[str]:
        """What only a restart would mend; empty when nothing is."""
        now = self._clock()
        if now - self._turned > self._stuck_after:
            return [f"the loop has not come round for {now - self._turned:.0f} s"]
        behind = {} if self._waiting_for else self._lagging(now)
        # a shard that was idle until now is behind for a moment: only one that stays so is stuck
        known = {n: seen for n, seen in self._behind.items() if n in behind and behind[n] == seen[0]}
        self._behind = {shard: known.get(shard, (offset, now)) for shard, offset in behind.items()}
        return [
            f"shard {shard} has unread records and has stood at {offset} for {now - since:.0f} s"
            for shard, (offset, since) in self._behind.items()
            if now - since > self._stuck_after
        ]

    def not_ready(self) -> list[str]:
        """What is missing until every assigned shard is applied."""
        if self._waiting_for:
            return [self._waiting_for]
        if not self._joined:
            return ["no assignment from the group yet"]
        unread = sorted(shard for shard, (offset, _) in self._standing.copy().items() if offset is None)
        return [f"shards assigned, but not read yet: {unread}"] if unread else []

    def _lagging(self, now: float) -> dict[int, int | None]:
        """Shards that have not moved for long and have unread records → where they stand."""
        still = {
            shard: offset for shard, (offset, since) in self._standing.copy().items() if now - since > self._stuck_after
        }
        if not still:
            return {}
        try:
            ends = self._ends(sorted(still))
        except RetryableError:
            return {}
        return {shard: offset for shard, offset in still.items() if ends.get(shard, 0) > (offset or 0)}
