"""Writes what each fault has cost into a document: `python -m tests.faults.table REPORT DOCUMENT`.

REPORT holds a JSON object a line, as `pytest --fault-report` writes it. The table is put between two marks. Exit code 1
when anything was lost, came from nowhere or was counted wrongly.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- faults: written by `make guarantees` -->", "<!-- end of faults -->"
NUMBERS = ("trials", "changes", "lost", "phantom", "drift")


def summed(lines: Iterable[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Fault → its numbers, added up over the lines, in the order in which the faults came first."""
    rows: dict[str, dict[str, int]] = {}
    for line in lines:
        row = rows.setdefault(line["fault"], dict.fromkeys(NUMBERS, 0))
        for name in NUMBERS:
            row[name] += line[name]
    return rows


def table(rows: dict[str, dict[str, int]]) -> str:
    """A Markdown table with a row for each fault and one for all."""
    total = {name: sum(row[name] for row in rows.values()) for name in NUMBERS}
    head = ["| fault | trials | changes | lost | phantom | drift |", "| --- | --: | --: | --: | --: | --: |"]
    body = [f"| {fault} | " + " | ".join(f"{row[name]:,}" for name in NUMBERS) + " |" for fault, row in rows.items()]
    last = "| **all** | " + " | ".join(f"**{total[name]:,}**" for name in NUMBERS) + " |"
    return "\n".join([*head, *body, last])


def put(document: str, written: str) -> str:
    """The document with the table between its marks. Raises ValueError when a mark is missing."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document has to hold {BEGIN} and after it {END}")
    return f"{before}{BEGIN}\n\n{written}\n\n{END}{after}"


def main(report: Path, document: Path) -> int:
    """Write the table; return the exit code."""
    rows = summed(json.loads(line) for line in report.read_text("utf-8").splitlines())
    document.write_text(put(document.read_text("utf-8"), table(rows)), "utf-8")
    bad = sum(row[name] for row in rows.values() for name in ("lost", "phantom", "drift"))
    print(f"{document}: {len(rows)} faults, {bad} differences")  # noqa: T201 - a command
    return 1 if bad else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
