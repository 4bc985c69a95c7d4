"""Rounds of a subject and its ceiling, and the table that they end in."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
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
    value: float | None
    unit: str
    ratio: float | None = None
    must: str = ""
    met: bool | None = None
    note: str = ""
    """why there is no value"""
    points: tuple[tuple[float, float], ...] = ()
    """the curve that the value sums up, for a chart"""


class NotMeasured(Exception):
    """A subject could not be measured; says why, and the report does too."""


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
    given_up: dict[str, str] = {}
    for number in range(repeats):
        for name in [name for name in subjects if name not in given_up]:
            try:
                speed = subjects[name]()
            except NotMeasured as error:
                given_up[name] = str(error)
                console.print(f"{benchmark}  {name}: not measured: {error}", markup=False)
                continue
            values[name].append(speed)
            console.print(
                f"{benchmark} {number + 1}/{repeats}  {name}: {speed.wall:,.0f} {unit}, {speed.core:,.0f} a core"
            )
    rows = []
    for name, found in values.items():
        if name in given_up:
            rows.append(Row(benchmark, name, None, f"{unit} a core", note=f"not measured: {given_up[name]}"))
        else:
            rows += _medians(benchmark, unit, name, found, values[CEILING], must.get(name))
    return rows


def warm_up(subjects: Mapping[str, Callable[[], Speed]]) -> None:
    """Measure each of them once for nothing: a process that has just started still asks for memory as it works."""
    for name, measure in subjects.items():
        console.print(f"warming up: {name}", markup=False)
        measure()


def _medians(
    benchmark: str, unit: str, name: str, found: list[Speed], ceiling: list[Speed], least: float | None
) -> list[Row]:
    rows = []
    for kind, of in (("", attrgetter("wall")), (" a core", attrgetter("core"))):
        ratio = median(of(speed) / of(top) for speed, top in zip(found, ceiling, strict=True))
        value, bound = median(of(speed) for speed in found), least if kind else None
        wanted = f"≥ {bound:g} of the ceiling" if bound else ""
        rows.append(Row(benchmark, name, value, unit + kind, ratio, wanted, ratio >= bound if bound else None))
    return rows


PEER = "peer: "


def beside_peers(rows: list[Row], benchmark: str, subject: str, *, least: float | None = None) -> list[Row]:
    """How many times the best peer's work a core the subject does; nothing when no peer was measured."""
    found = {row.name: row.value for row in rows if row.benchmark == benchmark and row.unit.endswith(" a core")}
    peers = {name: value for name, value in found.items() if name.startswith(PEER) and value is not None}
    value = found[subject]
    if not peers or value is None:
        return []
    best = max(peers, key=lambda name: peers[name])
    return [bounded(benchmark, f"{subject} ÷ {best.removeprefix(PEER)}", value / peers[best], "×", least=least)]


def bounded(
    benchmark: str, name: str, value: float, unit: str, *, most: float | None = None, least: float | None = None
) -> Row:
    """A figure with a bound of its own."""
    if most is not None:
        return Row(benchmark, name, value, unit, None, f"≤ {most:,g} {unit}", value <= most)
    if least is not None:
        return Row(benchmark, name, value, unit, None, f"≥ {least:,g} {unit}", value >= least)
    return Row(benchmark, name, value, unit)


def flatness(
    benchmark: str, unit: str, costs: Mapping[int, float], of: Callable[[int], str], *, most: float
) -> list[Row]:
    """A row for the cost at each size, and how many times the cheapest the most expensive one takes."""
    rows = [bounded(benchmark, of(size), cost, unit) for size, cost in costs.items()]
    ratio = max(costs.values()) / min(costs.values())
    points = tuple((float(size), cost) for size, cost in costs.items())
    return [*rows, replace(bounded(benchmark, "most ÷ least", ratio, "×", most=most), points=points)]


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
        value = "" if row.value is None else f"{row.value:,.{1 if abs(row.value) >= 10 else 2}f}"  # noqa: PLR2004
        table.add_row(row.benchmark, row.name, value, row.unit, ratio, row.must, row.note or verdict)
    Console(width=140).print(table)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return all(row.met is not False for row in rows)
