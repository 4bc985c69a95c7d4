"""HTTP load: a closed loop by wrk, which must be on the PATH (`apt-get install wrk`), and an open one of our own."""

import json
import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.machine import SERVERS, Machine, cpu_seconds, pinned
from benchmarks.report import Row, Speed, bounded

_LEAST_ANSWERED = 0.9
OPEN_LOOP_S = 15


def closed_loop(url: str, pid: int, script: Path, *, connections: int = 64, seconds: int = 5) -> Speed:
    """Requests answered by 200 per second of the process that serves `url`. Raises RuntimeError when one in ten is not:
    a machine that others use too makes the gateway's bound on acknowledgements bite."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("no wrk on the PATH; install it, for instance by `apt-get install wrk`")
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
    with pinned(SERVERS):
        busy = cpu_seconds(pid)
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        busy = cpu_seconds(pid) - busy
    rate, requests = re.search(r"Requests/sec:\s+([\d.]+)", found), re.search(r"(\d+) requests in", found)
    if rate is None or requests is None or "Socket errors" in found:
        raise RuntimeError(f"wrk said something unexpected:\n{found}")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", found)
    answered = int(requests[1]) - (int(failed[1]) if failed else 0)
    if answered < _LEAST_ANSWERED * int(requests[1]):
        raise RuntimeError(f"too many requests were not answered by 200:\n{found}")
    return Speed(float(rate[1]) * answered / int(requests[1]), answered / busy)


def posting(folder: Path, bodies: list[bytes]) -> Path:
    """A script for wrk that posts these bodies in turn."""
    quoted = ",\n".join(json.dumps(body.decode()) for body in bodies)
    script = folder / f"post-{len(bodies)}-{len(bodies[0])}.lua"
    script.write_text(
        f"local bodies, n = {{{quoted}}}, 0\n"
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        "function request() n = n % #bodies + 1; return wrk.format(nil, nil, nil, bodies[n]) end\n"
    )
    return script


def getting(folder: Path, paths: list[str]) -> Path:
    """A script for wrk that gets these paths in turn."""
    quoted = ", ".join(json.dumps(path) for path in paths)
    script = folder / "get.lua"
    script.write_text(
        f"local paths, n = {{{quoted}}}, 0\n"
        "function request() n = n % #paths + 1; return wrk.format(nil, paths[n]) end\n"
    )
    return script


def open_loop(
    here: Machine, hop: str, name: str, url: str, lines: list[bytes], rate: int, most_p99_ms: float
) -> list[Row]:
    """Latencies at a steady rate, whose generator shares the core of the servers. `lines`: see open_loop.py."""
    host, port = url.removeprefix("http://").split(":")
    command = ["-m", "benchmarks.open_loop", host, port, str(rate), str(OPEN_LOOP_S)]
    found = here.output(command, SERVERS, given=b"\n".join(lines))
    refused, half, most, worst = map(float, found.split())
    benchmark = f"{hop}, open loop at {rate:,}/s"
    return [
        bounded(benchmark, f"{name}: p50", half, "ms"),
        bounded(benchmark, f"{name}: p99", most, "ms", most=most_p99_ms),
        bounded(benchmark, f"{name}: greatest", worst, "ms"),
        bounded(benchmark, f"{name}: not answered by 200", refused, "requests", most=0),
    ]
