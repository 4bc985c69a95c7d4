"""Bars and curves as SVG, in colours that are read on light and dark grounds."""

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _LEFT, _RIGHT = 720, 260, 90
_BAR, _GAP, _TOP = 22, 10, 44
_PLOT_HEIGHT = 260
_COLOURS = ("#3b82c4", "#d97706", "#2f9e6e", "#b4558f", "#7c6fd6", "#8a8a8a")
_STYLE = (
    "<style>text{font:13px system-ui,sans-serif;fill:#7a828c}.title{font-weight:600;font-size:15px}"
    ".axis{stroke:#9aa3ad;stroke-width:1}</style>"
)


def _svg(height: int, title: str, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">'
    shown = f'<title>{escape(title)}</title>{_STYLE}<text class="title" x="10" y="24">{escape(title)}</text>'
    return f"{head}{shown}{''.join(parts)}</svg>\n"


def bars(title: str, values: Mapping[str, float]) -> str:
    """A bar for each value, the longest as wide as there is room."""
    room, most, parts = _WIDTH - _LEFT - _RIGHT, max(values.values()), []
    for number, (name, value) in enumerate(values.items()):
        y = _TOP + number * (_BAR + _GAP)
        colour = _COLOURS[0] if not name.startswith(("peer", "ceiling")) else _COLOURS[5]
        width = room * value / most
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(name.removeprefix("peer: "))}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="3" fill="{colour}"/>',
            f'<text x="{_LEFT + width + 6:.1f}" y="{y + 16}">{value:,.0f}</text>',
        ]
    return _svg(_TOP + len(values) * (_BAR + _GAP), title, parts)


def curves(
    title: str, across: str, up: str, lines: Mapping[str, Sequence[tuple[float, float]]], *, logarithmic: bool = False
) -> str:
    """A line for each name, over one pair of axes that begins at 0; `logarithmic`: from left to right."""
    left, bottom, room = 70, _TOP + _PLOT_HEIGHT, _WIDTH - 70 - 150
    place = math.log10 if logarithmic else float
    xs = [place(x) for points in lines.values() for x, _ in points]
    least, most = min(xs), max(xs)
    top = 1.1 * max(y for points in lines.values() for _, y in points) or 1.0
    ends = [x for points in lines.values() for x, _ in points]
    parts = [
        f'<path class="axis" fill="none" d="M{left} {_TOP}V{bottom}H{left + room}"/>',
        f'<text x="{left - 8}" y="{_TOP + 12}" text-anchor="end">{top:,.3g}</text>',
        f'<text x="{left - 8}" y="{bottom}" text-anchor="end">0</text>',
        f'<text x="{left}" y="{_TOP - 4}">{escape(up)}</text>',
        f'<text x="{left}" y="{bottom + 18}">{min(ends):,.0f}</text>',
        f'<text x="{left + room}" y="{bottom + 18}" text-anchor="end">{max(ends):,.0f} {escape(across)}</text>',
    ]
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        drawn = " ".join(
            f"{left + room * (place(x) - least) / ((most - least) or 1):.1f},{bottom - _PLOT_HEIGHT * y / top:.1f}"
            for x, y in points
        )
        y = bottom - _PLOT_HEIGHT * points[-1][1] / top
        parts += [
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{drawn}"/>',
            f'<text x="{left + room + 8}" y="{y + 4:.1f}" style="fill:{colour}">{escape(name)}</text>',
        ]
    return _svg(bottom + 30, title, parts)
