"""`audience-stream status`: whether Redis holds all of the log, and if not, how far it is and until when."""

import json
import time
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from audience_core.errors import RetryableError
from audience_core.settings import CoreSettings, load
from audience_stream.backlog import Backlog, Meter, open_meter

EXIT_BEHIND = 1
EXIT_UNREACHABLE = 2
_FAST = 10
"""records a second from which a fraction says nothing"""
_STATES = {
    "caught_up": "caught up",
    "empty": "Redis is empty, and the workers have applied nothing of the log yet",
    "catching_up": "catching up",
    "standing_still": "behind, and nothing is being applied: does a worker run, and what does its log say?",
}
Tell = Callable[[Backlog], None]


def status(
    watch: Annotated[bool, typer.Option("--watch", help="repeat until all is applied")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="seconds between two measurements, whence the pace")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, one line for each measurement")] = False,
) -> None:
    """Show how far each shard is behind its log, at what pace that shrinks and until when, as in a rebuild.

    Exit 0 when all is applied, 1 when something is not, 2 when Kafka or Redis can't be reached.

    Example: audience-stream status --watch --interval 5
    """
    settings = load(CoreSettings)
    try:
        with open_meter(settings) as meter:
            if watch:
                found = _until_caught_up(meter, interval, as_json=as_json)
            else:
                found = meter.measure()
                if found.state != "caught_up":
                    time.sleep(interval)
                    found = meter.measure()
    except RetryableError as error:
        typer.echo(f"audience-stream: {error}", err=True)
        raise typer.Exit(EXIT_UNREACHABLE) from error
    if not as_json:
        _print(found)
    elif not watch:
        _print_json(found)
    raise typer.Exit(0 if found.state == "caught_up" else EXIT_BEHIND)


def _until_caught_up(meter: Meter, interval: float, *, as_json: bool) -> Backlog:
    """Only the first measurement has to work: a rebuild outlives a moment's outage."""
    found = meter.measure()
    if as_json:
        return _repeat(meter, found, interval, _print_json)
    console = Console()
    if not console.is_terminal:
        return _repeat(meter, found, interval, lambda backlog: typer.echo(_line(backlog)))
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[pace]}"))
    with Progress(*columns, console=console) as progress:
        bar, began = progress.add_task("", pace=""), found.position

        def show(backlog: Backlog) -> None:
            done = max(0, backlog.position - began)
            total = max(1, done + backlog.behind)
            words = backlog.state.replace("_", " ")
            progress.update(bar, description=words, completed=done, total=total, pace=_pace(backlog))

        return _repeat(meter, found, interval, show)


def _repeat(meter: Meter, found: Backlog, interval: float, tell: Tell) -> Backlog:
    tell(found)
    while found.state != "caught_up":
        time.sleep(interval)
        try:
            found = meter.measure()
        except RetryableError as error:
            typer.echo(f"audience-stream: {error}; trying again", err=True)
        else:
            tell(found)
    return found


def _line(backlog: Backlog) -> str:
    text = f"{_STATES[backlog.state]} · {backlog.behind:,} records behind"
    if backlog.seconds:
        text += f", the oldest {_duration(backlog.seconds)} old"
    text += f" · {backlog.applied_share:.1%} of the log applied"
    return text if backlog.state == "caught_up" else f"{text} · {_pace(backlog)}"


def _pace(backlog: Backlog) -> str:
    if backlog.records_per_second is None:
        return f"{backlog.behind:,} left"
    # the first record after minutes is a slow pace, and not none
    rate = f"{backlog.records_per_second:,.{0 if backlog.records_per_second >= _FAST else 2}f}"
    until = "" if backlog.eta_seconds is None else f", about {_duration(backlog.eta_seconds)}"
    return f"{backlog.behind:,} left at {rate} records/s{until}"


def _print(backlog: Backlog) -> None:
    table = Table("shard", "stored offset", "log end", "records behind", "oldest", title="Redis against the log")
    for column in table.columns:
        column.justify = "right"
    for shard in backlog.shards:
        table.add_row(
            str(shard.shard),
            "nothing" if shard.stored is None else f"{shard.stored:,}",
            f"{shard.end:,}",
            f"{shard.behind:,}",
            _duration(shard.seconds) if shard.seconds else "",
        )
    Console().print(table)
    typer.echo(_line(backlog))


def _print_json(backlog: Backlog) -> None:
    typer.echo(json.dumps(backlog.as_json()))


def _duration(seconds: float) -> str:
    """The two greatest units: `45 s`, `2 min 15 s`, `3 d 4 h`."""
    whole = round(seconds)
    for unit, size, smaller, part in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{whole} s"
