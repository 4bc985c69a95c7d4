"""Whether cost stays flat: a change's with more shards and with more in Redis, a removal's with more members."""

import contextlib
import json
import socket
import time
import uuid
from collections.abc import Callable
from statistics import median
from typing import Any

import hiredis
import httpx

from audience_core.change_reader import Change, Run
from audience_core.redis import keys
from audience_core.redis.connect import connect
from audience_core.redis.operations import Operations
from audience_core.redis.shard_store import ShardStore
from benchmarks.changes import ACCOUNT, PER_PROFILE, publish
from benchmarks.machine import SERVERS, SUBJECT, Machine, demo, machine
from benchmarks.report import Row, console, flatness
from benchmarks.worker import apply_all

SHARD_COUNTS = (1, 4, 16, 64)
MEMBERSHIPS = (10**4, 10**5, 10**6, 10**7)
MEMBERS = (10**3, 10**4, 10**5, 10**6)
MUST_SHARDS = MUST_MEMBERSHIPS = 2.0
MUST_REMOVE = 2.0
_PER_VISITOR = 3
_TOUCHED = 3000
"""visitors of a round: fewer than the least size holds"""
_REMOVALS = 15
_FIRST_REMOVED = 500_000
_FIRST_MPID = 5_000_000_000_000_000_000


def run(here: Machine) -> list[Row]:
    """Costs at each size, and the most expensive over the cheapest."""
    return [*_shards(here), *_memberships(here), *_removals(here)]


def _sizes(here: Machine, sizes: tuple[int, ...]) -> list[int]:
    return [size for size in sizes if size <= sizes[-1] * here.scale or size == sizes[0]]


def _shards(here: Machine) -> list[Row]:
    """Processor time of the busiest process on the path for a change, with topics of so many partitions; brokers of
    their own, since a topic's partitions are fixed."""
    count, costs = max(20_000, int(200_000 * here.scale)), {}
    for shards in SHARD_COUNTS:
        folder = here.folder / f"shards-{shards}"
        folder.mkdir()
        with machine(folder, {"": {}}, kafka=None, repeats=1, scale=here.scale, shards=shards) as there:
            written = publish(there.kafka, count, shards)
            speeds = [apply_all(there, written, {}).core for _ in range(here.repeats)]
        costs[shards] = 1e6 / median(speeds)
        console.print(f"scaling  {shards} shards: {costs[shards]:.2f} µs a change")
    here.enter()
    return flatness("scaling, shards", "µs a change", costs, lambda size: f"{size} shards", most=MUST_SHARDS)


def _memberships(here: Machine) -> list[Row]:
    """Redis's processor time for a change of the apply script, on visitors that were there before."""
    here.redis.flushall()
    costs, held = {}, 0
    store, applied = ShardStore(connect(here.settings), here.settings), [0]
    for size in _sizes(here, MEMBERSHIPS):
        _fill(here, range(held, size // _PER_VISITOR), range(7, 7 + _PER_VISITOR))
        held = size // _PER_VISITOR
        rounds = [_touch(here, store, held, applied) for _ in range(4 * here.repeats)]
        costs[size] = median(rounds)
        console.print(f"scaling  {size:,} memberships: {costs[size]:.2f} µs a change")
    store.close()
    return flatness(
        "scaling, memberships", "µs a change", costs, lambda size: f"{size:,} in Redis", most=MUST_MEMBERSHIPS
    )


def _touch(here: Machine, store: ShardStore, held: int, applied: list[int]) -> float:
    """Let visitors spread over all leave an audience and enter another one; µs a change. Their guards are new each
    time: else the smallest size would find them and the largest would not."""
    mpids = [str(_FIRST_MPID + number * held // _TOUCHED) for number in range(_TOUCHED)]
    entered, left = (7, 99) if applied[0] // _TOUCHED % 2 else (99, 7)
    runs = Run("ENTER", (str(entered),)), Run("EXIT", (str(left),))
    batches = []
    for first in range(0, _TOUCHED, 1000):
        operations = Operations()
        for mpid in mpids[first : first + 1000]:
            operations.change(Change(ACCOUNT.encode(), mpid, applied[0] + 1, applied[0] + 1, (), runs))
        batches.append(operations)
    busy = _redis_cpu_us(here)
    for operations in batches:
        store.apply(0, "topic", applied[0] or None, applied[0] + 1000, operations)
        applied[0] += 1000
    busy = _redis_cpu_us(here) - busy
    pipe = here.redis.pipeline(transaction=False)
    for mpid in mpids:
        pipe.unlink(keys.of_visitor(0, ACCOUNT, mpid).guards)
    pipe.execute()
    return busy / (_TOUCHED * PER_PROFILE)


def _redis_cpu_us(here: Machine) -> float:
    found = here.redis.info("cpu")
    return 1e6 * (float(found["used_cpu_user"]) + float(found["used_cpu_sys"]))


def _removals(here: Machine) -> list[Row]:
    """Milliseconds from the `remove` of a subscription to its 200. Each audience is removed once: the second removal
    would find no member."""
    here.redis.flushall()
    costs, first = {}, 0
    with contextlib.ExitStack() as running:
        api, _ = running.enter_context(here.service("api", SERVERS))
        gateway, _ = running.enter_context(here.service("gateway", SUBJECT))
        client = running.enter_context(httpx.Client(trust_env=False, timeout=30))
        key = demo(here, gateway, api)["api_key"]
        for number, size in enumerate(_sizes(here, MEMBERS)):
            audiences = range(_FIRST_REMOVED + 100 * number, _FIRST_REMOVED + 100 * number + _REMOVALS)
            _fill(here, range(first, first + size), audiences)
            first += size
            for audience in audiences:
                _subscribe(client, gateway, key, audience, "add")
            costs[size] = median(_subscribe(client, gateway, key, audience, "remove") for audience in audiences)
            console.print(f"scaling  remove with {size:,} members: {costs[size]:.2f} ms")
    return flatness("scaling, remove", "ms", costs, lambda size: f"{size:,} members", most=MUST_REMOVE)


def _subscribe(client: httpx.Client, gateway: str, key: str, audience: int, action: str) -> float:
    message = {
        "type": "audience_subscription_request",
        "id": str(uuid.uuid4()),
        "timestamp_ms": time.time_ns() // 1_000_000,
        "account": {"account_settings": {"apiKey": key}},
        "audience_id": audience,
        "audience_name": "A",
        "action": action,
    }
    content, started = json.dumps(message), time.perf_counter()
    client.post(f"{gateway}/firehose", content=content).raise_for_status()
    return (time.perf_counter() - started) * 1000


def _fill(here: Machine, visitors: range, audiences: range, at_once: int = 10_000) -> None:
    """Put visitors into audiences, all in shard 0, by plain SADD."""
    port = int(here.redis_url.split(":")[2].split("/")[0])
    members: list[str] = [str(audience) for audience in audiences]
    with socket.create_connection(("127.0.0.1", port)) as line:
        for first in range(visitors.start, visitors.stop, at_once):
            part = range(first, min(first + at_once, visitors.stop))
            names = (keys.of_visitor(0, ACCOUNT, str(_FIRST_MPID + number)).members for number in part)
            line.sendall(b"".join([hiredis.pack_command(_command("SADD", name, *members)) for name in names]))
            _read_answers(line.recv, len(part))


def _command(*words: str) -> Any:
    return words  # typed narrower in hiredis than what it takes


def _read_answers(recv: Callable[[int], bytes], due: int) -> None:
    while due:
        found = recv(1 << 20)
        if not found or b"-" in found:
            raise RuntimeError(f"Redis answered {found[:200]!r} to SADD")
        due -= found.count(b"\n")
