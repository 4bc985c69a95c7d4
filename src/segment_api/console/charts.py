"""Charts as SVG shapes, worked out here so that pages need no script for them. Pure: `now` is an argument."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from audience_core.redis.activity import Minute

WIDTH, HEIGHT = 760, 180
LEFT, RIGHT, TOP, BOTTOM = 56, 8, 10, 22
HOUR_MS, MINUTE_MS = 3_600_000, 60_000
BARS = 60


@dataclass(frozen=True)
class Tick:
    """A label with its place in the drawing."""

    at: float
    text: str


@dataclass(frozen=True)
class LineChart:
    """A count over time, as a line of steps and the area under it."""

    line: str
    area: str
    values: list[Tick]
    times: list[Tick]
    summary: str


@dataclass(frozen=True)
class Bar:
    """One minute: enters above the middle line, exits below it."""

    x: float
    width: float
    enters_y: float
    enters: float
    exits: float


@dataclass(frozen=True)
class BarChart:
    """Enters and exits of the last hour."""

    bars: list[Bar]
    middle: float
    values: list[Tick]
    times: list[Tick]
    summary: str


def line_chart(samples: Sequence[tuple[int, int]], count: int, now_ms: int) -> LineChart | None:
    """Draw `samples` of (ms, count) up to `count` now; None while there is nothing to draw."""
    if not samples:
        return None
    begin = min(samples[0][0], now_ms - HOUR_MS)
    top = _round_up(max([count, *(value for _, value in samples)]))
    points: list[tuple[float, float]] = []
    for at, value in [*samples, (now_ms, count)]:
        x = _x(at, begin, now_ms)
        if len(points) > 1 and at < now_ms and x - points[-1][0] < 1:
            points[-1] = (points[-1][0], _y(value, top))  # finer than a screen shows: the newest value stands
            continue
        if points:
            points.append((x, points[-1][1]))  # a count holds until it changes
        points.append((x, _y(value, top)))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    floor = HEIGHT - BOTTOM
    area = f"{points[0][0]:.1f},{floor} {line} {points[-1][0]:.1f},{floor}"
    values = [Tick(_y(value, top), f"{value:,}") for value in sorted({0, top // 2, top})]
    span = now_ms - begin
    times = [Tick(_x(begin + span * part // 4, begin, now_ms), _ago(span - span * part // 4)) for part in range(5)]
    lowest, highest = min(v for _, v in samples), max(v for _, v in samples)
    summary = f"Between {lowest:,} and {highest:,} visitors over the last {_span(span)}; {count:,} now."
    return LineChart(line, area, values, times, summary)


def bar_chart(minutes: Sequence[Minute], now_ms: int) -> BarChart | None:
    """Draw the last hour; None when nothing happened in it."""
    first = now_ms // MINUTE_MS - BARS + 1
    recent = {minute.at // MINUTE_MS: minute for minute in minutes if minute.at // MINUTE_MS >= first}
    if not recent:
        return None
    top = _round_up(max(max(m.enters, m.exits) for m in recent.values()))
    middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
    step, half = (WIDTH - LEFT - RIGHT) / BARS, middle - TOP
    bars = [
        Bar(
            x=LEFT + (at - first) * step + 1,
            width=step - 2,
            enters_y=middle - half * minute.enters / top,
            enters=half * minute.enters / top,
            exits=half * minute.exits / top,
        )
        for at, minute in sorted(recent.items())
    ]
    values = [Tick(TOP, f"+{top:,}"), Tick(middle, "0"), Tick(HEIGHT - BOTTOM, f"−{top:,}")]  # noqa: RUF001
    times = [Tick(LEFT + step * part * BARS / 4, _ago((4 - part) * HOUR_MS // 4)) for part in range(5)]
    enters, exits = sum(m.enters for m in recent.values()), sum(m.exits for m in recent.values())
    return BarChart(bars, middle, values, times, f"{enters:,} enters and {exits:,} exits within the last hour.")


def _x(at: int, begin: int, end: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (at - begin) / max(end - begin, 1)


def _y(value: int, top: int) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top


def _round_up(value: int) -> int:
    """The next of 2, 4, 10, 20, 40, 100 …, so that half of it is whole too."""
    if value <= 2:  # noqa: PLR2004
        return 2
    magnitude: int = 10 ** math.floor(math.log10(value))
    return next(step * magnitude for step in (1, 2, 4, 10, 20) if step * magnitude >= value)


def _ago(milliseconds: int) -> str:
    return f"{_span(milliseconds)} ago" if milliseconds >= MINUTE_MS // 2 else "now"


def _span(milliseconds: int) -> str:
    minutes = round(milliseconds / MINUTE_MS)
    if minutes < 120:  # noqa: PLR2004
        return f"{minutes} min"
    hours = minutes / 60
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"  # noqa: PLR2004
