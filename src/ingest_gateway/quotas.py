"""How many changes a second an account may send, so that one customer's back-fill does not delay the others."""

import math
import time
from collections.abc import Callable
from typing import Any

Clock = Callable[[], float]
"""Seconds, from any start"""


class Quotas:
    """A bucket of tokens for each account, in the memory of this process: several gateways grant as many times as much.

    A message is granted whenever its account's bucket is not empty, and may leave a debt. So a message with more
    changes than the burst passes too, and those behind it wait until the debt is paid.
    """

    def __init__(self, rate: float, burst: float, clock: Clock = time.monotonic) -> None:
        """`rate` in changes a second, 0 for no limit; `burst` in changes, 0 for ten seconds' worth."""
        self._rate = rate
        self.limited = rate > 0
        self._burst = burst or 10 * rate
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        """account → (tokens, when they were counted)"""

    def take(self, account: str, changes: int) -> int:
        """Return 0 when granted, else after how many whole seconds to try again."""
        if not self.limited:
            return 0
        now = self._clock()
        tokens, counted_at = self._buckets.get(account, (self._burst, now))
        tokens = min(self._burst, tokens + (now - counted_at) * self._rate)
        granted = tokens > 0
        self._buckets[account] = (tokens - changes if granted else tokens, now)
        return 0 if granted else max(1, math.ceil(-tokens / self._rate))


def changes_in(profiles: list[Any]) -> int:
    """What a message costs: its audience items, and at least one for each profile."""
    return sum(_items(profile) for profile in profiles)


def _items(profile: Any) -> int:
    audiences = profile.get("audiences") if isinstance(profile, dict) else None
    return max(1, len(audiences)) if isinstance(audiences, list) else 1
