"""The worker end to end (consume, decode, fence, guard, counts) against a bare script on the same Redis."""

import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import hiredis

from audience_core.redis import keys
from benchmarks.changes import PER_PROFILE, profiles, publish
from benchmarks.machine import SHARDS, SUBJECT, Machine, cpu_seconds, pinned
from benchmarks.peers.environments import PEERS, ROOT, interpreter
from benchmarks.report import CEILING, PEER, NotMeasured, Row, Speed, beside_peers, rounds

MUST = 0.6
MUST_PEERS = 2.0
_PEER_S = 300
_BATCH = 1000
_UNDER_WAY = 3


def run(here: Machine) -> list[Row]:
    """Changes applied per second, of one worker on one core and one Redis on another."""
    count = int(200_000 * here.scale)
    written = publish(here.kafka, count, SHARDS)
    commands = _bare_commands(here.redis, count)
    subjects = {CEILING: partial(_bare, here, commands, count)}
    subjects |= {
        f"worker {label}".strip(): partial(apply_all, here, written, environment)
        for label, environment in here.revisions.items()
    }
    visitors = _visitors_left(count)
    subjects[f"{PEER}confluent-kafka + redis-py"] = partial(_peer, here, count, visitors, "plain")
    subjects |= {f"{PEER}{name}": partial(_peer, here, count, visitors, module) for name, module in PEERS.items()}
    rows = rounds("worker", "changes/s", subjects, here.repeats, must={"worker": MUST})
    return rows + beside_peers(rows, "worker", "worker", least=MUST_PEERS)


def _bare_commands(client: Any, count: int) -> list[bytes]:
    digest = client.script_load((Path(__file__).parent / "bare.lua").read_text())
    arguments: list[Any] = []
    for record in profiles(count):
        for change in record["changes"]:
            time_ = record["occurred_at"] if change["action"] == "ENTER" else -record["occurred_at"]
            arguments += [record["mpid"], change["audience_id"], time_]
    size = 3 * _BATCH
    parts = [arguments[first : first + size] for first in range(0, len(arguments), size)]
    return [hiredis.pack_command(("EVALSHA", digest, 1, "{s0}:", *part)) for part in parts]


def _bare(here: Machine, commands: list[bytes], count: int) -> Speed:
    here.redis.flushall()
    port = int(here.redis_url.split(":")[2].split("/")[0])
    with pinned(SUBJECT), socket.create_connection(("127.0.0.1", port)) as line:
        reader, due = hiredis.Reader(), 0
        started, busy = time.perf_counter(), here.redis_cpu()
        for command in commands:
            line.sendall(command)
            due += 1
            while due >= _UNDER_WAY:
                due -= _answers(line, reader)
        while due:
            due -= _answers(line, reader)
        changes = count * PER_PROFILE
        return Speed(changes / (time.perf_counter() - started), changes / (here.redis_cpu() - busy))


def _answers(line: socket.socket, reader: Any) -> int:
    reader.feed(line.recv(65536))
    found = 0
    while (reply := reader.gets()) is not False:
        if isinstance(reply, Exception):
            raise reply
        found += 1
    return found


def apply_all(here: Machine, written: list[int], environment: dict[str, str]) -> Speed:
    """Changes per second of a worker that begins with an empty Redis and the whole log before it."""
    here.redis.flushall()
    group = {"AUDIENCE_WORKER_GROUP": f"worker-{time.monotonic_ns()}"}
    with here.running(["-m", "audience_stream", "worker"], SUBJECT, **group, **environment) as process:
        speed = applied_per_second(here, written, process)
    return Speed(speed.wall * PER_PROFILE, speed.core * PER_PROFILE)


def applied_per_second(
    here: Machine, written: list[int], process: "subprocess.Popen[bytes]", within: float = 900.0
) -> Speed:
    """Records applied per second, from the first that is seen to the last: joining the group is not counted."""
    client = here.redis
    began: tuple[int, float, float, float] | None = None
    until = time.monotonic() + within
    while time.monotonic() < until and process.poll() is None:
        pipe = client.pipeline(transaction=False)
        for shard in range(len(written)):
            pipe.hget(keys.offset(shard), "offset")
        now = (sum(int(at or 0) for at in pipe.execute()), time.perf_counter())
        if began is None and now[0]:
            began = (*now, cpu_seconds(process.pid), here.redis_cpu())
        if began is not None and now[0] >= sum(written):
            done = now[0] - began[0]
            busiest = max(cpu_seconds(process.pid) - began[2], here.redis_cpu() - began[3])
            return Speed(done / (now[1] - began[1]), done / busiest)
        time.sleep(0.02)
    raise RuntimeError("the worker did not apply everything; see its log")


def _visitors_left(count: int) -> int:
    """How many visitors are in an audience once all is applied in the order of the log."""
    members: dict[str, set[int]] = {}
    for record in profiles(count):
        audiences = members.setdefault(record["mpid"], set())
        for change in record["changes"]:
            (audiences.add if change["action"] == "ENTER" else audiences.discard)(change["audience_id"])
    return sum(bool(audiences) for audiences in members.values())


def _peer(here: Machine, count: int, visitors: int, module: str) -> Speed:
    """Raises NotMeasured when it can't be installed or fails, or did other work than the worker."""
    python = sys.executable if module == "plain" else interpreter(module)
    here.redis.flushall()
    busy, command = here.redis_cpu(), ["-m", f"benchmarks.peers.{module}", str(count)]
    try:
        found = here.output(command, SUBJECT, python=python, within=_PEER_S, PYTHONPATH=str(ROOT / "src"))
    except subprocess.SubprocessError as error:
        raise NotMeasured(f"{type(error).__name__} of its process") from error
    if (left := here.redis.dbsize()) != visitors:
        raise NotMeasured(f"it left {left:,} visitors in Redis where {visitors:,} belong")
    wall, core = map(float, found.split())
    return Speed(wall * PER_PROFILE, PER_PROFILE * min(core, count / (here.redis_cpu() - busy)))
