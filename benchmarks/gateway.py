"""The gateway with all its guarantees against an application that only answers."""

import contextlib
import json
import time
import uuid
from functools import partial
from pathlib import Path

from benchmarks.http_load import closed_loop, open_loop, posting
from benchmarks.machine import SERVERS, SUBJECT, Machine, demo
from benchmarks.read import serving
from benchmarks.report import CEILING, PEER, Row, Speed, beside_peers, bounded, rounds, warm_up

MUST = 0.35
MUST_CHANGES = 150_000
RATE = 2000
MUST_P99_MS = 25
_AUDIENCES = (7, 8)


def run(here: Machine) -> list[Row]:
    """Requests per second of one gateway process on one core, at 64 connections; and changes per second of bodies with
    100 profiles."""
    with contextlib.ExitStack() as running:
        api, _ = running.enter_context(here.service("api", SERVERS))
        gateways = {
            f"gateway {label}".strip(): running.enter_context(here.service("gateway", SUBJECT, **environment))
            for label, environment in here.revisions.items()
        }
        secret = demo(here, next(iter(gateways.values()))[0], api)["api_key"]
        one, hundred = (posting(here.folder, bodies(secret, profiles)) for profiles in (1, 100))
        servers = {CEILING: serving(here, running, "noop"), **gateways}
        servers[f"{PEER}FastAPI"] = serving(here, running, "peers.fastapi_gateway")
        subjects = {name: partial(_measure, url, process.pid, one) for name, (url, process) in servers.items()}
        warm_up(subjects)
        rows = rounds("gateway", "requests/s", subjects, here.repeats, must={"gateway": MUST})
        rows += beside_peers(rows, "gateway", "gateway")
        for name, (url, process) in gateways.items():
            speed = closed_loop(f"{url}/firehose", process.pid, hundred, connections=8)
            changes = speed.core * 100 * len(_AUDIENCES)
            rows.append(bounded("gateway, 100 profiles a body", name, changes, "changes/s a core", least=MUST_CHANGES))
            rows += open_loop(here, "gateway", name, url, bodies(secret, 1), RATE, MUST_P99_MS)
        return rows


def _measure(url: str, pid: int, script: Path) -> Speed:
    return closed_loop(f"{url}/firehose", pid, script)


def bodies(secret: str, profiles: int) -> list[bytes]:
    """Messages of this many profiles, each of which enters two audiences."""
    items = [{"audience_id": audience, "audience_name": "A", "action": "add"} for audience in _AUDIENCES]
    count = max(1, 500 // profiles)
    return [
        json.dumps(
            {
                "type": "audience_membership_change_request",
                "id": str(uuid.uuid4()),
                "timestamp_ms": time.time_ns() // 1_000_000,
                "account": {"account_settings": {"apiKey": secret}},
                "user_profiles": [
                    {"mpid": str(number * profiles + profile), "audiences": items} for profile in range(profiles)
                ],
            }
        ).encode()
        for number in range(count)
    ]
