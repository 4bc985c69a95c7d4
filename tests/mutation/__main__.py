"""The command: `python -m tests.mutation`."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.mutation.mutants import MUTANTS, Mutant
from tests.simulation.mutants import MUTANTS as SIMULATION_MUTANTS

_ROOT = Path(__file__).parents[2]
_TESTS_FAILED = 1
_SEEDS = "2000"  # it ends with the first that finds the mutant
_LIMIT_S = 300


def main(
    only: Annotated[str, typer.Option(help="only mutants whose guard holds this text")] = "",
    processes: Annotated[int, typer.Option(min=1, help="mutants at a time")] = os.cpu_count() or 1,
) -> None:
    """Break every guard in a copy of the source and see that the test named for it fails; exit 1 when one does not.

    Example: python -m tests.mutation --only fence
    """
    started = time.monotonic()
    table = Table("guard", "where", "found by", "result", title="Mutants")
    jobs = [("", _baseline)] if not only else []
    jobs += [(mutant.guard, lambda mutant=mutant: _tested(mutant)) for mutant in MUTANTS]  # type: ignore[misc]
    jobs += [(name, lambda name=name: _simulated(name)) for name in SIMULATION_MUTANTS]  # type: ignore[misc]
    jobs = [job for job in jobs if only in job[0]]
    survived = 0
    with ThreadPoolExecutor(processes) as pool:
        results = [pool.submit(job) for _, job in jobs]
        for result in track(results, "breaking guards", console=Console(stderr=True)):
            row, killed = result.result()
            survived += not killed
            table.add_row(*row)
    Console(width=200).print(table)
    typer.echo(f"{len(jobs)} checks in {time.monotonic() - started:.0f} s, survived {survived}")
    raise typer.Exit(1 if survived else 0)


def _baseline() -> tuple[tuple[str, ...], bool]:
    """Without any mutant all of the named tests pass: else their failures would prove nothing."""
    with tempfile.TemporaryDirectory() as folder:
        _copy(Path(folder))
        passed = _pytest(Path(folder), sorted({mutant.test for mutant in MUTANTS})) == 0
    return ("none", "", "all named tests", "they pass" if passed else "they fail without a mutant"), passed


def _tested(mutant: Mutant) -> tuple[tuple[str, ...], bool]:
    row = (mutant.guard, mutant.file, mutant.test.partition("::test_")[2])
    with tempfile.TemporaryDirectory() as folder:
        source = _copy(Path(folder)) / mutant.file
        text = source.read_text("utf-8")
        if text.count(mutant.found) != 1:
            return (*row, "its pattern does not match the source any more"), False
        source.write_text(text.replace(mutant.found, mutant.broken), "utf-8")
        failed = _pytest(Path(folder), [mutant.test]) == _TESTS_FAILED
    return (*row, "found" if failed else "SURVIVED"), failed


def _simulated(name: str) -> tuple[tuple[str, ...], bool]:
    command = [sys.executable, "-m", "tests.simulation", "--mutant", name, "--seeds", _SEEDS, "--failures", "1"]
    done = subprocess.run(
        [*command, "--processes", "1", "--json"], capture_output=True, cwd=_ROOT, timeout=_LIMIT_S, check=False
    )
    failed = done.returncode == 1 and b'"failed": {"' in done.stdout
    return (name, "tests/simulation/mutants.py", "the simulation", "found" if failed else "SURVIVED"), failed


def _copy(folder: Path) -> Path:
    """Copy the source; return the folder of its packages."""
    shutil.copytree(_ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(_ROOT / "schemas", folder / "schemas")
    return folder / "src"


def _pytest(folder: Path, tests: list[str]) -> int:
    """Exit code of the tests on the copy. A test that can't be found or imported gives another code than a failure."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    origin = "import audience_core, sys; sys.exit(not audience_core.__file__.startswith(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", origin, str(folder)], env=environment, cwd=folder, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        env=environment,
        cwd=_ROOT,
        capture_output=True,
        timeout=_LIMIT_S,
        check=False,
    )
    return done.returncode


if __name__ == "__main__":
    typer.run(main)
