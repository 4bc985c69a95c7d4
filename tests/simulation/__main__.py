"""The command: `python -m tests.simulation --seeds 10000`."""

import json
import os
import sys
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation.many import play_all
from tests.simulation.mutants import MUTANTS, mutated
from tests.simulation.plan import make_plan
from tests.simulation.play import play
from tests.simulation.report import describe, shrink


def main() -> None:
    """Run under a fixed hash seed: the services iterate over sets, whose order would else differ from run to run."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        arguments = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, arguments, {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606 - itself
    typer.run(simulate)


def simulate(
    seeds: Annotated[int, typer.Option(min=1, help="how many seeds to play")] = 300,
    start: Annotated[int, typer.Option(help="the first of them")] = 0,
    seed: Annotated[int | None, typer.Option(help="play this one alone and tell what happens")] = None,
    failures: Annotated[int, typer.Option(min=1, help="stop after so many seeds that failed")] = 5,
    processes: Annotated[int, typer.Option(min=0, help="0 = one for each core")] = 0,
    mutant: Annotated[str | None, typer.Option(help=f"break a rule first: {', '.join(MUTANTS)}")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Play the services against a failing Kafka and Redis; exit 1 when a promise is broken.

    Example: python -m tests.simulation --seeds 10000
    """
    if seed is not None:
        with mutated(mutant):
            raise typer.Exit(_replay(seed))
    started = time.monotonic()
    numbers = range(start, start + seeds)
    with Progress(
        TextColumn("seeds"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)
    ) as progress:
        bar = progress.add_task("seeds", total=seeds)
        failed: dict[int, list[str]] = {}
        played = 0
        for number, problems in play_all(numbers, processes or os.cpu_count() or 1, mutant):
            played += 1
            progress.update(bar, advance=1)
            if problems:
                failed[number] = problems
                progress.console.print(f"seed {number}: {problems[0]}", markup=False)
            if len(failed) >= failures:
                break
    _tell(played, failed, time.monotonic() - started, mutant, as_json=as_json)
    raise typer.Exit(1 if failed else 0)


def _tell(played: int, failed: dict[int, list[str]], seconds: float, mutant: str | None, *, as_json: bool) -> None:
    kinds: dict[str, int] = dict.fromkeys(("lost", "phantom", "drift"), 0)
    for problems in failed.values():
        for problem in problems:
            kinds[problem.split(":")[0]] = kinds.get(problem.split(":")[0], 0) + 1
    if as_json:
        result: dict[str, Any] = {"seeds": played, "seconds": round(seconds, 1), "failed": failed, "kinds": kinds}
        typer.echo(json.dumps(result))
        return
    for number in sorted(failed)[:1]:
        with mutated(mutant):
            typer.echo(describe(*shrink(make_plan(number), failed[number][0])))
    for number in sorted(failed):
        typer.echo(f"seed {number}: {failed[number][0]}")
    typer.echo(f"{played} seeds in {seconds:.0f} s: " + ", ".join(f"{kind} {count}" for kind, count in kinds.items()))


def _replay(seed: int) -> int:
    plan = make_plan(seed)
    outcome = play(plan)
    if not outcome.problems:
        typer.echo(describe(plan, outcome))
        return 0
    typer.echo(describe(*shrink(plan, outcome.problems[0])))
    return 1


if __name__ == "__main__":
    main()
