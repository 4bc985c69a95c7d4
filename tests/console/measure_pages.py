"""How long each page of the console takes on the server, with 2,000 audiences and a million visitors.

Example: python -m tests.console.measure_pages --visitors 1000000
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import redis
import structlog
from rich.console import Console
from rich.progress import track
from rich.table import Table

from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.redis import keys
from audience_core.redis.connect import connect_async
from audience_stream.embedded import EmbeddedRedis
from segment_api.app import create_app
from segment_api.settings import ApiSettings
from tests.console.pages import ACCOUNT, TOKEN, Browser
from tests.segment_api.support import Sender

SHARDS = 64
CHUNK = 5000
BOUND_MS = 200


def fill(client: Any, audiences: int, visitors: int) -> None:
    """Write what the services would have written. A few audiences are large, most are small."""
    rng = random.Random(1)
    now = time.time_ns() // 1_000_000
    weights = [1 / (n + 1) for n in range(audiences)]
    counts = [0] * audiences
    pipe = client.pipeline(transaction=False)
    for first in track(range(0, visitors, CHUNK), description="visitors", console=Console(stderr=True)):
        for n in range(first, min(first + CHUNK, visitors)):
            mpid = str(n * 7919)
            chosen = set(rng.choices(range(audiences), weights, k=3))
            shard = shard_of(visitor_key("acme", mpid), SHARDS)
            pipe.sadd(keys.of_visitor(shard, "acme", mpid).members, *chosen)
            for audience in chosen:
                counts[audience] += 1
        pipe.execute()
    for n in range(audiences):
        state = {
            "account": "acme",
            "audience_id": n,
            "name": f"Audience {n} of a rather usual length",
            "description": "People who did something",
            "status": "ACTIVE",
            "epoch": 0,
            "settings": {"audienceEpoch": "0"},
            "opened_at": now,
            "updated_at": now,
        }
        pipe.hset(keys.catalog("acme"), str(n), json.dumps(state))
        pipe.hset(keys.index_counts("acme"), str(n), json.dumps({"count": counts[n], "updated_at": now}))
        if counts[n]:
            pipe.zadd(keys.index("acme"), {str(n): counts[n]})
    for minute in range(now // 60_000 - 1440, now // 60_000):
        pipe.rpush(keys.history("acme", 0), f"{minute}:{rng.randint(1, 10**6)}")
        series = keys.activity_changes("acme", 0, minute // 60)
        pipe.hset(series, mapping={f"e{minute % 60}": rng.randint(0, 500), f"x{minute % 60}": rng.randint(0, 500)})
    for _ in range(500):
        note = {"at": now, "type": "audience_membership_change_request", "status": 200, "changes": 500}
        pipe.xadd(
            keys.activity_requests("acme"),
            {"request": json.dumps(note | {"latency_ms": 4.2, "reason": None, "key_id": "k"})},
        )
    pipe.hset(keys.activity("acme"), mapping={"since": now, "last_message": now, "last_change": now})
    pipe.execute()


async def measure(url: str, rounds: int) -> list[tuple[str, float, float, float]]:
    """(page, median ms, slowest ms, median ms of this process's CPU) of each page."""
    given = {"redis_url": url, "admin_token": TOKEN, "pepper": "pepper-of-the-tests", "shards": SHARDS}
    settings = ApiSettings.model_validate(given)
    client = connect_async(settings)
    transport = httpx.ASGITransport(app=create_app(settings, client=client, sender=Sender()))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
        browser = Browser(http)
        await browser.sign_in()
        await browser.follow(await browser.post("/console/accounts", id="acme", name="Acme"))
        await browser.follow(await browser.post(f"{ACCOUNT}/integrations/pull/mparticle", name="Shop"))
        (connector,) = [str(found) for found in await client.hkeys(keys.connectors("acme"))]
        await browser.follow(await browser.post(f"{ACCOUNT}/integrations/api-keys"))
        for n in range(20):
            inner = {"op": "not", "items": [{"audience_id": n + 40}, {"audience_id": n + 80}]}
            rule = {"op": "and", "items": [{"op": "or", "items": [{"audience_id": a} for a in range(n, n + 8)]}, inner]}
            saved = await browser.post(f"{ACCOUNT}/segments/new", name=f"Segment {n}", rule=json.dumps(rule))
            assert saved.status_code == httpx.codes.SEE_OTHER
        segment = saved.headers["location"].rpartition("/")[2]
        paths = {
            "Integrations: Pull": "/integrations/pull",
            "Integrations: API key": "/integrations/api-keys",
            "Connector": f"/integrations/connectors/{connector}",
            "Audiences": "/audiences",
            "Audiences, searched": "/audiences?q=audience+19&sort=name",
            "Audiences, empty ones too": "/audiences?empty=1&sort=updated",
            "One audience": "/audiences/0",
            "Visitor": "/visitors?mpid=7919",
            "Segments (20)": "/segments",
            "Segment builder": f"/segments/{segment}",
            "Size of a rule": f"/segments/size?rule={json.dumps(rule)}",
        }
        return [(name, *await _timed(browser, path, rounds)) for name, path in paths.items()]


async def _timed(browser: Browser, path: str, rounds: int) -> tuple[float, float, float]:
    taken, worked = [], []
    for _ in range(rounds):
        began, idle = time.perf_counter(), time.process_time()
        answer = await browser.http.get(ACCOUNT + path)
        taken.append((time.perf_counter() - began) * 1000)
        worked.append((time.process_time() - idle) * 1000)
        assert answer.status_code == 200, (path, answer.status_code)
        await asyncio.sleep(0.3)  # so that samples, which are kept for 5 s, are made anew within the rounds
    return statistics.median(taken), max(taken), statistics.median(worked)


def main() -> int:
    """Fill a Redis of its own, measure, print a table; 1 when a page is over the bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audiences", type=int, default=2000)
    parser.add_argument("--visitors", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder)) as server:
        with redis.Redis.from_url(server.url) as client:
            fill(client, asked.audiences, asked.visitors)
        found = asyncio.run(measure(server.url, asked.rounds))
    table = Table("page", "median ms", "slowest ms", "CPU ms")
    for name, median, slowest, worked in found:
        table.add_row(name, f"{median:.0f}", f"{slowest:.0f}", f"{worked:.0f}")
    Console().print(table)
    return int(any(median > BOUND_MS for _, median, *_ in found))


if __name__ == "__main__":
    sys.exit(main())
