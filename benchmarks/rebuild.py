"""An empty Redis from a log of ten million changes, by one worker; and whether it is told how far that is."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from audience_stream.embedded import free_port
from benchmarks.changes import PER_PROFILE
from benchmarks.long_log import publish
from benchmarks.machine import SERVERS, SUBJECT, Machine, pinned
from benchmarks.report import Row, Speed, bounded, console
from benchmarks.worker import applied_per_second

MUST = 150_000
"""changes a second"""
PROFILES = 5_000_000
_TOLD_FROM_S = 10.0
"""a shorter rebuild, as of a scaled-down log, may be over before anybody looks"""
_STATUS_EVERY_S = 5.0
_METRIC_EVERY_S = 1.0


def run(here: Machine) -> list[Row]:
    """Changes applied per second, of one worker on one core, from the first to the last."""
    written = publish(here.kafka, int(PROFILES * here.scale))
    rows = []
    for label, environment in here.revisions.items():
        name = f"worker {label}".strip()
        speed, told = _rebuilt(here, written, environment)
        rows += [
            bounded("rebuild", name, speed.wall, "changes/s", least=MUST),
            bounded("rebuild", name, speed.core, "changes/s a core"),
        ]
        if not label and sum(written) * PER_PROFILE / speed.wall >= _TOLD_FROM_S:
            rows += [bounded("rebuild", f"times that the {who} told how far", n, "times", least=1) for who, n in told]
    return rows


def _rebuilt(here: Machine, written: list[int], environment: dict[str, str]) -> tuple[Speed, list[tuple[str, int]]]:
    here.redis.flushall()
    port = str(free_port())
    own = {"AUDIENCE_WORKER_GROUP": f"rebuild-{time.monotonic_ns()}", "AUDIENCE_METRICS_PORT": port}
    listener = Listener(here.folder, f"http://127.0.0.1:{port}/metrics", sum(written))
    worker = ["-m", "audience_stream", "worker"]
    with here.running(worker, SUBJECT, AUDIENCE_LOG_LEVEL="info", **own, **environment) as process:
        listener.start()
        try:
            speed = applied_per_second(here, written, process)
        finally:
            listener.end()
    console.print(f"rebuild  {sum(written):,} records: {speed.wall * PER_PROFILE:,.0f} changes/s")
    return Speed(speed.wall * PER_PROFILE, speed.core * PER_PROFILE), listener.told()


class Listener(threading.Thread):
    """Reads what is told while a rebuild goes on: the worker's metric, which it shows as a bar, and `status`."""

    def __init__(self, folder: Path, metrics_url: str, records: int) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._url = metrics_url
        self._records = records
        self._ending = threading.Event()
        self._metric = 0

    def run(self) -> None:
        """Listen until the end."""
        command = [sys.executable, "-m", "audience_stream", "status", "--json", "--watch"]
        columns = (TextColumn("rebuilding"), BarColumn(), TextColumn("{task.completed:,.0f}"), TimeRemainingColumn())
        with pinned(SERVERS), (self._folder / "status.jsonl").open("wb") as output:
            status = subprocess.Popen([*command, "--interval", str(_STATUS_EVERY_S)], stdout=output)
        try:
            with Progress(*columns, console=console) as progress:
                bar = progress.add_task("records", total=self._records)
                while not self._ending.wait(_METRIC_EVERY_S):
                    left, seconds = self._left()
                    if 0 < seconds < float("inf"):
                        self._metric += 1
                        progress.update(bar, completed=self._records - left)
        finally:
            status.kill()
            status.wait()

    def end(self) -> None:
        """Stop listening."""
        self._ending.set()
        self.join()

    def told(self) -> list[tuple[str, int]]:
        """(who, how often they told of a rebuild under way)"""
        return [
            ("log", _lines(self._folder / "processes.log", event="catching_up")),
            ("metric", self._metric),
            ("status command", _lines(self._folder / "status.jsonl", state="catching_up")),
        ]

    def _left(self) -> tuple[float, float]:
        """(records, seconds) that are left by the worker's metrics; zeros while it does not answer."""
        try:
            text = httpx.get(self._url, timeout=2, trust_env=False).text
        except httpx.HTTPError:
            return 0.0, 0.0
        found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("audience_worker_left_"))
        return float(found.get("audience_worker_left_records", 0)), float(found.get("audience_worker_left_seconds", 0))


def _lines(file: Path, **fields: str) -> int:
    """How many JSON lines of a file have these fields and an estimate of the time that is left."""
    lines = [json.loads(line) for line in file.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
    return sum(
        fields.items() <= line.items() and (line.get("eta_s") or line.get("eta_seconds")) is not None for line in lines
    )
