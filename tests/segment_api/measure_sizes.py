"""Measures estimates of segments over many visitors: `python -m tests.segment_api.measure_sizes --visitors 1000000`.

Loads visitors straight into the keys of an embedded Redis, then times first and repeated estimates, compares them with
the true sizes, and times a PING beside them.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import redis
import typer

from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.redis import keys
from audience_core.redis.connect import connect_async
from audience_core.settings import CoreSettings
from audience_stream.embedded import EmbeddedRedis
from segment_api.accounts import AccountCache
from segment_api.rules import RULE, Rule, select
from segment_api.sizes import SizeEstimator

SHARDS = 64


def load(url: str, visitors: int, audiences: int, seed: int) -> list[set[int]]:
    """Visitors of account `acme`, each in about 8 audiences: the first ones are large, the last ones small."""
    rng = random.Random(seed)
    weights = [1 / (n + 2) ** 0.8 for n in range(audiences)]
    drawn = iter(rng.choices(range(1, audiences + 1), weights, k=visitors * 8))
    with redis.Redis.from_url(url) as client:
        pipe: Any = client.pipeline(transaction=False)
        held: list[set[int]] = []
        counts = dict.fromkeys(range(1, audiences + 1), 0)
        for n in range(visitors):
            mpid, members = str(n * 7919 - 10**18), {next(drawn) for _ in range(8)}
            held.append(members)
            for audience_id in members:
                counts[audience_id] += 1
            shard = shard_of(visitor_key("acme", mpid), SHARDS)
            pipe.sadd(keys.of_visitor(shard, "acme", mpid).members, *members)
            if n % 3 == 0:  # the guard of a visitor who changed within the ordering window
                pipe.hset(keys.of_visitor(shard, "acme", mpid).guards, "r", 1_790_000_000_000)
            if n % 2000 == 1999:
                pipe.execute()
        for audience_id, count in counts.items():
            state = {"name": f"Audience {audience_id}", "status": "ACTIVE", "epoch": 0, "audience_id": audience_id}
            pipe.hset(keys.catalog("acme"), str(audience_id), json.dumps(state))
            if count:
                pipe.zadd(keys.index("acme"), {str(audience_id): count})
        pipe.hincrby(keys.CATALOG_VERSIONS, "acme", 1)
        pipe.execute()
    return held


def rule(op: str, *items: Any) -> dict[str, Any]:
    return {"op": op, "items": [{"audience_id": item} if isinstance(item, int) else item for item in items]}


RULES = {
    "one audience alone": rule("and", 1),
    "two large: and": rule("and", 1, 2),
    "three large: or": rule("or", 1, 2, 3),
    "large, not large": rule("and", 1, rule("not", 2)),
    "not two large": rule("not", 1, 2),
    "two small: and": rule("and", 1500, 1600),
    "two small: or": rule("or", 1500, 1600),
    "200 in or": rule("or", *range(1, 201)),
}


def true_size(given: Rule, held: list[set[int]], populated: set[int]) -> int:
    # 100,000 visitors are enough to compare with, and quick
    part = held[:100_000]
    masks: dict[int, int] = {}
    for audience_id in given.audiences:
        bits = bytearray(len(part) // 8 + 1)
        for n, members in enumerate(part):
            if audience_id in members:
                bits[n >> 3] |= 1 << (n & 7)
        masks[audience_id] = int.from_bytes(bits, "little")
    found = select(given, lambda a: masks[a], (1 << len(part)) - 1, populated)
    return round(found.bit_count() * len(held) / len(part))


async def measure(url: str, held: list[set[int]], rounds: int) -> None:
    client = connect_async(CoreSettings.model_validate({"redis_url": url}))
    populated = set[int]().union(*held[:100_000])
    pings: list[float] = []

    async def ping() -> None:
        while True:
            started = time.perf_counter()
            await client.ping()
            pings.append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(0.002)

    pinging = asyncio.create_task(ping())
    for name, raw in RULES.items():
        given = RULE.validate_python(raw)
        cold: list[float] = []
        warm: list[float] = []
        for _ in range(rounds):
            sizes = SizeEstimator(client, AccountCache(client))
            for times in (cold, warm):
                started = time.perf_counter()
                size = await sizes.estimate("acme", given)
                times.append((time.perf_counter() - started) * 1000)
        true = true_size(given, held, populated)
        typer.echo(
            f"{name:20} size {size.size:8} ± {size.error or 0:7} (true about {true:8})"
            f"  first {max(cold):6.1f} ms at most, repeated {max(warm):5.1f} ms at most"
        )
    pinging.cancel()
    await asyncio.gather(pinging, return_exceptions=True)
    pings.sort()
    typer.echo(f"PING beside it, same process: median {statistics.median(pings):.1f} ms, largest {pings[-1]:.1f} ms")
    await client.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visitors", type=int, default=1_000_000)
    parser.add_argument("--audiences", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder)) as server:
        started = time.monotonic()
        held = load(server.url, given.visitors, given.audiences, seed=1)
        typer.echo(
            f"{given.visitors} visitors, {given.audiences} audiences, loaded in {time.monotonic() - started:.0f} s"
        )
        asyncio.run(measure(server.url, held, given.rounds))


if __name__ == "__main__":
    main()
