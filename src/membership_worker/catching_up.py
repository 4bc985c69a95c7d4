"""Tells how far a worker is that has much to catch up with: an empty Redis, one that went back, or a long pause.

Each worker tells of its own shards. Nothing is asked for it: the ends of the logs are those that the fetches brought.
"""

from collections.abc import Callable, Mapping

from audience_core.domain.pace import Pace
from audience_core.observability import metrics
from audience_core.observability.logging import get_logger
from audience_core.redis.shard_store import Applied
from membership_worker.shard import Shard

log = get_logger()
FAR, NEAR = 10_000, 1_000
"""records left, from which on it counts as catching up, and below which as caught up: a busy worker is never at 0"""
_TELL_EVERY_S = 10.0
_PACE_OVER_S = 30.0


class CatchingUp:
    """Looks once in a while. `end_of` gives the end of a shard's log as far as it is known, None before."""

    def __init__(self, end_of: Callable[[int], int | None]) -> None:
        self._end_of = end_of
        self._far = False
        self._since = self._tell_at = 0.0
        self._records = self._changes = 0
        self._shards: set[int] = set()
        self._pace = Pace(_PACE_OVER_S)

    def applied(self, records: int, applied: Applied) -> None:
        """Note a batch."""
        self._records += records
        self._changes += applied.changes

    def look(self, shards: Mapping[int, Shard], now: float) -> None:
        """Measure and tell. `now`: seconds of a monotonic clock."""
        left = self._left(shards)
        if left is None:
            return  # a shard that was just taken, or is being read again: the next look will know
        if not shards or (left < FAR and not self._far):
            self._restart(now)
            _show(left, 0.0)
            return
        self._far = True
        if shards.keys() != self._shards:  # what came or went with a rebalance is no progress
            self._shards, self._pace = set(shards), Pace(_PACE_OVER_S)
        self._pace.add(now, self._records, left)
        if left < NEAR:
            self._tell_end(now)
            self._restart(now)
            _show(left, 0.0)
            return
        seconds = self._pace.seconds_left
        _show(left, float("inf") if seconds is None else seconds)
        if now >= self._tell_at:
            self._tell_at = now + _TELL_EVERY_S
            self._tell(left, seconds)

    def _left(self, shards: Mapping[int, Shard]) -> int | None:
        left = 0
        for number, shard in shards.items():
            end = self._end_of(number)
            if end is None:
                return None
            left += max(0, end - shard.position)
        return left

    def _restart(self, now: float) -> None:
        self._far = False
        self._since, self._tell_at = now, 0.0
        self._records = self._changes = 0
        self._shards.clear()
        self._pace = Pace(_PACE_OVER_S)

    def _tell(self, left: int, seconds: float | None) -> None:
        rate = self._pace.rate
        log.info(
            "catching_up",
            shards=len(self._shards),
            done=self._records,
            left=left,
            records_per_s=None if rate is None else round(rate),
            changes_per_s=None if rate is None else round(rate * self._changes / max(1, self._records)),
            eta_s=None if seconds is None else round(seconds),
        )

    def _tell_end(self, now: float) -> None:
        took = max(now - self._since, 0.001)
        log.info(
            "caught_up",
            records=self._records,
            changes=self._changes,
            seconds=round(took, 1),
            records_per_s=round(self._records / took),
            changes_per_s=round(self._changes / took),
        )


def _show(left: int, seconds: float) -> None:
    metrics.WORKER_LEFT.set(left)
    metrics.WORKER_LEFT_SECONDS.set(seconds)
