"""Memory of each service under a steady load: what it holds, and whether that grows."""

import contextlib
import time
from dataclasses import replace
from pathlib import Path

from rich.progress import Progress

from benchmarks.changes import ACCOUNT
from benchmarks.gateway import bodies
from benchmarks.machine import SERVERS, Machine, demo, whole_system
from benchmarks.report import Row, bounded, console

RATE, READS = 200, 100
EVERY_S = 5.0
MUST_KB_PER_MINUTE = 50
_PAGE_KB = 4


def run(here: Machine) -> list[Row]:
    """Resident memory over some minutes of changes and reads; its slope over the last two thirds."""
    with contextlib.ExitStack() as running:
        services = running.enter_context(whole_system(here))
        (api, _), (gateway, _) = services["api"], services["gateway"]
        pids = {name: process.pid for name, (_, process) in services.items()}
        key = demo(here, gateway, api)["api_key"]
        seconds = 60 * here.minutes
        paths = [f"/accounts/{ACCOUNT}/segments/{number}".encode() for number in range(500)]
        for url, rate, lines in ((gateway, RATE, bodies(key, 1)), (api, READS, paths)):
            host, port = url.removeprefix("http://").split(":")
            requests = here.folder / f"soak-{rate}"
            requests.write_bytes(b"\n".join(lines))
            command = ["-m", "benchmarks.open_loop", host, port, str(rate), str(seconds), str(requests)]
            running.enter_context(here.running(command, SERVERS))
        found = _sampled(pids, seconds)
    return [row for name, points in found.items() for row in _rows(name, points)]


def _sampled(pids: dict[str, int], seconds: float) -> dict[str, list[tuple[float, float]]]:
    """Name → (minutes since the beginning, KB)."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in pids}
    began = time.monotonic()
    with Progress(console=console) as progress:
        bar = progress.add_task("soak", total=seconds)
        while (now := time.monotonic() - began) < seconds:
            for name, pid in pids.items():
                resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KB
                found[name].append((now / 60, float(resident)))
            progress.update(bar, completed=now)
            time.sleep(EVERY_S)
    return found


def _rows(name: str, points: list[tuple[float, float]]) -> list[Row]:
    steady = points[len(points) // 3 :]
    slope = bounded("soak", f"{name}: growth", slope_of(steady), "KB a minute", most=MUST_KB_PER_MINUTE)
    curve = tuple((minutes, resident / 1024) for minutes, resident in points)
    return [replace(bounded("soak", f"{name}: resident", steady[-1][1] / 1024, "MB"), points=curve), slope]


def slope_of(points: list[tuple[float, float]]) -> float:
    """Of the straight line with the least squares."""
    middle_x, middle_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0
