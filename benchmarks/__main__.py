"""`python -m benchmarks`: measure, print a table, and tell by the exit code whether every bound is met."""

import contextlib
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.machine import machine
from benchmarks.report import Row, console, show

NAMES = ("worker", "rebuild", "gateway", "read", "freshness", "memory", "scaling")
LONG = ("soak",)
"""run only when named"""
ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def checked_out(revision: str, folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which a process runs the code of another git revision."""
    tree = folder / "revision"
    subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", str(tree), revision], check=True)  # noqa: S607
    try:
        yield {"PYTHONPATH": str(tree / "src")}
    finally:
        subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(tree)], check=True)  # noqa: S607


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"which to run: {', '.join(NAMES)}, all by default; {', '.join(LONG)}")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures here too")] = None,
    compare: Annotated[str | None, typer.Option(help="measure another git revision beside this one")] = None,
    kafka: Annotated[str | None, typer.Option(help="host:port of a broker; an embedded one by default")] = None,
    repeats: Annotated[int, typer.Option(help="rounds of each subject and its ceiling", min=1)] = 5,
    scale: Annotated[float, typer.Option(help="share of the full amount of work", min=0.001)] = 1.0,
    minutes: Annotated[float, typer.Option(help="how long soak lasts", min=0.5)] = 15,
) -> None:
    """Measure the hops of the system, each beside its ceiling, on two cores.

    Example: python -m benchmarks worker --repeats 3 --json worker.json
    """
    rows: list[Row] = []
    for name in names or NAMES:
        with contextlib.ExitStack() as running:
            folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="audience-bench-")))
            revisions: dict[str, dict[str, str]] = {"": {}}
            if compare:
                revisions[f"at {compare}"] = running.enter_context(checked_out(compare, folder))
            options = {"repeats": repeats, "scale": scale, "minutes": minutes}
            here = running.enter_context(machine(folder, revisions, kafka=kafka, **options))
            console.rule(name)
            try:
                rows += importlib.import_module(f"benchmarks.{name}").run(here)
            except Exception:
                console.print(
                    (folder / "processes.log").read_text()[-3000:] if (folder / "processes.log").exists() else ""
                )
                raise
    if not show(rows, json_file):
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
