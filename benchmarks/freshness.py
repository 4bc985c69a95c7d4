"""How long after its 200 a change is seen: by the segment API, and in the listing when it is an audience's first."""

import json
from typing import Any

from benchmarks.machine import SERVERS, Machine, demo, whole_system
from benchmarks.report import Row, bounded

RATE, RATE_S = 200, 15
FIRSTS, FIRSTS_RATE = 100, 10
MUST_VISIBLE_MS = 150
MUST_LISTED_MS = 500


def run(here: Machine) -> list[Row]:
    """Milliseconds from the gateway's 200, with every service running; asked every 2 ms."""
    with whole_system(here) as services:
        (api, _), (gateway, _) = services["api"], services["gateway"]
        told = {
            "gateway": gateway,
            "api": api,
            "key": demo(here, gateway, api)["api_key"],
            "token": here.environment["AUDIENCE_ADMIN_TOKEN"],
            "rate": RATE,
            "count": RATE * RATE_S,
            "firsts": FIRSTS,
            "firsts_rate": FIRSTS_RATE,
        }
        found = json.loads(here.output(["-m", "benchmarks.watcher"], SERVERS, given=json.dumps(told).encode()))
    seen = f"200 → segment API, {RATE}/s"
    listed = f"200 → listing, {FIRSTS_RATE} first members/s"
    return [*_rows(seen, found["seen"], MUST_VISIBLE_MS), *_rows(listed, found["listed"], MUST_LISTED_MS)]


def _rows(name: str, found: dict[str, Any], most: float) -> list[Row]:
    return [
        bounded("freshness", f"{name}: p50", found["p50"], "ms"),
        bounded("freshness", f"{name}: p99", found["p99"], "ms", most=most),
        bounded("freshness", f"{name}: greatest", found["max"], "ms"),
    ]
