"""Rounds of a subject and its ceiling, and the table that they end in."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

console = Console(stderr=True)
CEILING = "ceiling"


@dataclass(frozen=True)
class Row:
    """One figure. `ratio` is the median of the rounds' ratios to the ceiling measured in the same round."""

    benchmark: str
    name: str
    value: float
    unit: str
    ratio: float | None = None
    must: str = ""
    met: bool | None = None


class Speed(NamedTuple):
    """One measurement: work per second of the clock, and per processor second of the busiest process of the path. The
    second is what the path would do with a core for each process; others who use the machine hardly change it."""

    wall: float
    core: float


def rounds(
    benchmark: str, unit: str, subjects: Mapping[str, Callable[[], Speed]], repeats: int, *, must: Mapping[str, float]
) -> list[Row]:
    """Measure every subject in turn, `repeats` times. The one named CEILING is what the others are compared with;
    `must` holds the least ratio of a subject."""
    values: dict[str, list[Speed]] = {name: [] for name in subjects}
    for number in range(repeats):
        for name, measure in subjects.items():
            speed = measure()
            values[name].append(speed)
            console.print(
                f"{benchmark} {number + 1}/{repeats}  {name}: {speed.wall:,.0f} {unit}, {speed.core:,.0f} a core"
            )
    rows = []
    for name, found in values.items():
        least = must.get(name)
        for kind, of in (("", attrgetter("wall")), (" a core", attrgetter("core"))):
            pairs = zip(found, values[CEILING], strict=True)
            ratio = median(of(speed) / of(top) for speed, top in pairs)
            value, bound = median(of(speed) for speed in found), least if kind else None
            wanted = f"≥ {bound:g} of the ceiling" if bound else ""
            rows.append(Row(benchmark, name, value, unit + kind, ratio, wanted, ratio >= bound if bound else None))
    return rows


def bounded(
    benchmark: str, name: str, value: float, unit: str, *, most: float | None = None, least: float | None = None
) -> Row:
    """A figure with a bound of its own."""
    if most is not None:
        return Row(benchmark, name, value, unit, None, f"≤ {most:,g} {unit}", value <= most)
    if least is not None:
        return Row(benchmark, name, value, unit, None, f"≥ {least:,g} {unit}", value >= least)
    return Row(benchmark, name, value, unit)


def percentile(values: list[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def show(rows: list[Row], json_file: Path | None) -> bool:
    """Print the table, write the JSON, and tell whether every bound is met."""
    table = Table("benchmark", "subject", "median", "unit", "of the ceiling", "must", "")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        verdict = {None: "", True: "met", False: "NOT MET"}[row.met]
        table.add_row(row.benchmark, row.name, f"{row.value:,.1f}", row.unit, ratio, row.must, verdict)
    Console(width=140).print(table)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return all(row.met is not False for row in rows)
