"""How fast a backlog shrinks and when it will be gone, while its own end may move."""

from collections import deque


class Pace:
    """Measurements of the last `over_s` seconds."""

    def __init__(self, over_s: float) -> None:
        self._over_s = over_s
        self._seen: deque[tuple[float, int, int]] = deque()

    def add(self, now: float, done: int, left: int) -> None:
        """Note how much was done so far, counted from any beginning, and how much is left. Whoever counts less than
        before was thrown back: what was measured until then says nothing any more."""
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, done, left))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._over_s:  # noqa: PLR2004 - a pace needs two
            self._seen.popleft()

    @property
    def rate(self) -> float | None:
        """What is done in a second; None before the second measurement."""
        return self._slope(1)

    @property
    def seconds_left(self) -> float | None:
        """Until nothing is left, by the pace at which that shrinks: what is new meanwhile counts against what is done.
        None while it is unknown or does not shrink."""
        if self._seen and not self._seen[-1][2]:
            return 0.0
        slope = self._slope(2)
        return self._seen[-1][2] / -slope if slope is not None and slope < 0 else None

    def _slope(self, of: int) -> float | None:
        if len(self._seen) < 2 or self._seen[-1][0] <= self._seen[0][0]:  # noqa: PLR2004 - a pace needs two
            return None
        first, last = self._seen[0], self._seen[-1]
        return (last[of] - first[of]) / (last[0] - first[0])
