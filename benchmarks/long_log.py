"""A log of millions of changes, written as fast as the broker takes it, and as the gateway writes: messages of 100."""

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
from benchmarks.machine import SHARDS
from benchmarks.report import console

_PER_MESSAGE = 100
_SHOWN_EVERY = 10_000
_FLUSHED_WITHIN_S = 120
_FIRST_MPID = 5_000_000_000_000_000_000


def records(count: int, seed: int = 1) -> Iterator[tuple[int, bytes, bytes]]:
    """(shard, key, value) of `count` profiles: a visitor comes three times on average; one profile in five leaves."""
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
            if number % _SHOWN_EVERY == 0:
                producer.poll(0)
                progress.update(bar, completed=number)
        left = producer.flush(_FLUSHED_WITHIN_S)
        progress.update(bar, completed=count)
    if left:
        raise RuntimeError(f"{left} records were not taken by the broker")
    return written
