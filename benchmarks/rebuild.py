"""An empty Redis from a log of ten million changes, by one worker; and whether it tells how far it is."""

import random
import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Producer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audience_core.change_writer import Change
from audience_core.codec import Codec
from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.topics import CHANGES
from benchmarks.changes import ACCOUNT, AUDIENCES, PER_PROFILE
from benchmarks.machine import SHARDS, SUBJECT, Machine
from benchmarks.report import Row, Speed, bounded, console
from benchmarks.worker import applied_per_second

MUST = 150_000
"""changes a second"""
PROFILES = 5_000_000
_PER_MESSAGE = 100
_TOLD_EVERY = 10_000
_FIRST_MPID = 5_000_000_000_000_000_000


def run(here: Machine) -> list[Row]:
    """Changes applied per second, of one worker on one core, from the first to the last."""
    written = publish(here.kafka, int(PROFILES * here.scale))
    rows = []
    for label, environment in here.revisions.items():
        speed = _rebuilt(here, written, environment)
        name = f"worker {label}".strip()
        rows += [
            bounded("rebuild", name, speed.wall, "changes/s", least=MUST),
            bounded("rebuild", name, speed.core, "changes/s a core"),
        ]
    return rows


def records(count: int, seed: int = 1) -> Iterator[tuple[int, bytes, bytes]]:
    """(shard, key, value) of `count` profiles: a visitor comes three times on average; one profile in five leaves.

    As `changes.profiles`, but written as the gateway writes them, messages of a hundred: five times as fast.
    """
    chance = random.Random(seed)  # noqa: S311 - seeded on purpose
    pairs = [chance.sample(range(AUDIENCES), PER_PROFILE) for _ in range(4096)]
    choices: list[list[Change]] = [
        [(audience, 0, "EXIT" if number % 5 == 0 else "ENTER") for audience in pair]
        for number, pair in enumerate(pairs)
    ]
    codec, visitors, start = Codec(), max(1, count // 3), time.time_ns() // 1_000_000 - count
    for first in range(0, count, _PER_MESSAGE):
        at = start + first
        writer = codec.changes_of(ACCOUNT, at, at, f"00000000-0000-4000-8000-{first:012}")
        for _ in range(min(_PER_MESSAGE, count - first)):
            drawn = chance.getrandbits(64)
            mpid = str(_FIRST_MPID + (drawn >> 12) % visitors)
            key = visitor_key(ACCOUNT, mpid)
            yield shard_of(key, SHARDS), key, writer.write(mpid.encode(), (), choices[drawn & 4095])


def publish(bootstrap: str, count: int) -> list[int]:
    """Publish `count` profiles; returns how many each shard got."""
    producer: Any = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 50,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 500_000,
        }
    )
    written = [0] * SHARDS
    columns = (TextColumn("publishing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("records", total=count)
        for number, (shard, key, value) in enumerate(records(count)):
            while True:
                try:
                    producer.produce(CHANGES, value, key, partition=shard)
                    break
                except BufferError:
                    producer.poll(0.1)
            written[shard] += 1
            if number % _TOLD_EVERY == 0:
                producer.poll(0)
                progress.update(bar, completed=number)
        left = producer.flush(120)
        progress.update(bar, completed=count)
    if left:
        raise RuntimeError(f"{left} records were not taken by the broker")
    return written


def _rebuilt(here: Machine, written: list[int], environment: dict[str, str]) -> Speed:
    here.redis.flushall()
    group = {"AUDIENCE_WORKER_GROUP": f"rebuild-{time.monotonic_ns()}"}
    with here.running(["-m", "audience_stream", "worker"], SUBJECT, **group, **environment) as process:
        speed = applied_per_second(here, written, process)
    console.print(f"rebuild  {sum(written):,} records: {speed.wall * PER_PROFILE:,.0f} changes/s")
    return Speed(speed.wall * PER_PROFILE, speed.core * PER_PROFILE)
