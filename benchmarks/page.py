"""Puts the figures of runs into docs/performance.md, and their charts beside it.

    python -m benchmarks.page docs/performance.md FIGURES.json...

The files are what `--json` wrote. A benchmark that several of them hold is taken from the last.
"""

import json
import sys
from pathlib import Path

from benchmarks.charts import bars, curves
from benchmarks.report import Row

BEGIN, END = "<!-- figures: written by make bench-page -->", "<!-- end of figures -->"
CHARTS = "performance"


def rows_of(files: list[Path]) -> list[Row]:
    """All figures, benchmark by benchmark."""
    found: dict[str, list[Row]] = {}
    for file in files:
        part: dict[str, list[Row]] = {}
        for fields in json.loads(file.read_text()):
            points = tuple((x, y) for x, y in fields.pop("points", ()))
            part.setdefault(fields["benchmark"], []).append(Row(**fields, points=points))
        found |= part
    return [row for rows in found.values() for row in rows]


def table(rows: list[Row]) -> str:
    """The figures as a table of Markdown."""
    lines = ["| benchmark | subject | figure | of the ceiling | bound |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        figure = row.note if row.value is None else f"{row.value:,.{1 if abs(row.value) < 1000 else 0}f} {row.unit}"  # noqa: PLR2004
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        verdict = {None: "", True: f"met: {row.must}", False: f"**not met**: {row.must}"}[row.met]
        lines.append(f"| {row.benchmark} | {row.name} | {figure} | {ratio} | {verdict} |")
    return "\n".join(lines)


def charts(rows: list[Row]) -> dict[str, str]:
    """File name → SVG."""
    made: dict[str, str] = {}
    for hop, title in (
        ("worker", "Changes applied a second and core"),
        ("gateway", "Requests a second and core, one profile each"),
        ("read", "Reads a second and core"),
    ):
        values = {
            row.name: row.value
            for row in rows
            if row.benchmark == hop and row.unit.endswith(" a core") and row.value is not None
        }
        if values:
            made[f"{hop}.svg"] = bars(title, values)
    soak = {row.name.split(":")[0]: row.points for row in rows if row.benchmark == "soak" and row.points}
    if soak:
        made["soak.svg"] = curves("Resident memory under a steady load", "minutes", "MB", soak)
    for row in rows:
        if row.benchmark.startswith("scaling, ") and row.points:
            what = row.benchmark.removeprefix("scaling, ")
            unit = next(r.unit for r in rows if r.benchmark == row.benchmark)
            made[f"scaling-{what}.svg"] = curves(f"Cost over {what}", what, unit, {what: row.points}, logarithmic=True)
    return made


def main(page: Path, files: list[Path]) -> None:
    """Write both."""
    rows = rows_of(files)
    folder = page.parent / CHARTS
    folder.mkdir(exist_ok=True)
    drawn = charts(rows)
    for name, svg in drawn.items():
        (folder / name).write_text(svg)
    pictures = "\n".join(f"![{name.removesuffix('.svg')}]({CHARTS}/{name})" for name in drawn)
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{table(rows)}\n\n{pictures}\n\n{END}{after}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
