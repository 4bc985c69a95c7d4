"""The segment API against an application that asks nobody."""

import contextlib
import subprocess
from functools import partial
from pathlib import Path

from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.redis import keys
from audience_stream.embedded import free_port
from benchmarks.changes import ACCOUNT
from benchmarks.http_load import closed_loop, getting, open_loop
from benchmarks.machine import SHARDS, SUBJECT, Machine, answers, wait_for
from benchmarks.report import CEILING, Row, Speed, rounds, warm_up

MUST = 0.4
RATE = 5000
MUST_P99_MS = 10
_VISITORS = 2000


def run(here: Machine) -> list[Row]:
    """Requests per second of one API process on one core; each visitor is in three audiences."""
    pipe = here.redis.pipeline(transaction=False)
    for number in range(_VISITORS):
        shard = shard_of(visitor_key(ACCOUNT, str(number)), SHARDS)
        pipe.sadd(keys.of_visitor(shard, ACCOUNT, str(number)).members, 7, 8, 9)
        pipe.hset(keys.of_visitor(shard, ACCOUNT, str(number)).guards, mapping={"r": 1, "7": 1, "8": 1, "9": 1})
    pipe.execute()
    paths = [f"/accounts/{ACCOUNT}/segments/{number}" for number in range(_VISITORS)]
    script = getting(here.folder, paths)
    with contextlib.ExitStack() as running:
        servers = {CEILING: serving(here, running, "noop")}
        for label, environment in here.revisions.items():
            servers[f"segment API {label}".strip()] = running.enter_context(here.service("api", SUBJECT, **environment))
        subjects = {name: partial(_measure, url, process, script) for name, (url, process) in servers.items()}
        warm_up(subjects)
        rows = rounds("read", "requests/s", subjects, here.repeats, must={"segment API": MUST})
        lines = [path.encode() for path in paths]
        for name in servers.keys() - {CEILING}:
            rows += open_loop(here, "read", name, servers[name][0], lines, RATE, MUST_P99_MS)
        return rows


def serving(here: Machine, running: contextlib.ExitStack, module: str) -> "tuple[str, subprocess.Popen[bytes]]":
    """Start an application of these benchmarks, which is told its port; returns its base URL and its process."""
    port = free_port()
    process = running.enter_context(here.running(["-m", f"benchmarks.{module}", str(port)], SUBJECT))
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: answers(url), process)
    return url, process


def _measure(url: str, process: "subprocess.Popen[bytes]", script: Path) -> Speed:
    return closed_loop(url, process.pid, script)
