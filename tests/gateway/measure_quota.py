"""How fresh an account's changes stay while another account floods at ten times its quota.

`python -m tests.gateway.measure_quota [SECONDS]` starts a system of its own, and prints the time from the gateway's 200
to the segment API showing the change: quiet, flooded with a quota, and flooded without one. Quiet and flooded rounds
take turns, so that whatever else the machine does is in both.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.pipeline.running import Stack
from tests.pipeline.starting import started
from tests.spool.load import OpenLoop

QUOTA = 300
PER_MESSAGE = 50
QUIET_RATE = 20
ROUNDS = 4


def body(key: str, mpids: list[str]) -> bytes:
    message = {
        "type": "audience_membership_change_request",
        "timestamp_ms": time.time_ns() // 1_000_000,
        "account": {"account_id": 1, "account_settings": {"apiKey": key}},
        "user_profiles": [
            {"mpid": mpid, "audiences": [{"audience_id": 1, "audience_name": "A", "action": "add"}]} for mpid in mpids
        ],
    }
    return json.dumps(message).encode()


class Freshness:
    """One account's single enters, and how long each takes to be shown. Milliseconds."""

    def __init__(self, stack: Stack, account: str, key: str) -> None:
        self._gateway, self._api = stack.ready["gateway_url"], stack.ready["api_url"]
        self._account, self._key = account, key
        self._serial = 0

    async def run(self, seconds: float) -> list[float]:
        taken: list[float] = []
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client, asyncio.TaskGroup() as tasks:
            started_at = time.perf_counter()
            for n in range(int(seconds * QUIET_RATE)):
                await asyncio.sleep(max(0.0, started_at + n / QUIET_RATE - time.perf_counter()))
                self._serial += 1
                tasks.create_task(self._one(client, f"fresh-{self._serial}", taken))
        return taken

    async def _one(self, client: httpx.AsyncClient, mpid: str, taken: list[float]) -> None:
        content = body(self._key, [mpid])
        while (await client.post(f"{self._gateway}/firehose", content=content)).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # as mParticle does
        answered = time.perf_counter()
        shown_at = f"{self._api}/accounts/{self._account}/segments/{mpid}"
        while not (await client.get(shown_at)).json():  # noqa: ASYNC110 - it is asked as an SDK asks
            await asyncio.sleep(0.005)
        taken.append((time.perf_counter() - answered) * 1000)


def shares(taken: list[float]) -> str:
    ordered = sorted(taken)
    figures = [f"p{int(share * 100)} {ordered[int(len(ordered) * share)]:.1f}" for share in (0.5, 0.99)]
    return f"{', '.join(figures)}, max {ordered[-1]:.1f} ms ({len(ordered)} changes)"


async def flooded(loop: OpenLoop, key: str, freshness: Freshness, seconds: float) -> list[float]:
    rate = 10 * QUOTA / PER_MESSAGE
    bodies = [body(key, [f"flood-{n}-{m}" for m in range(PER_MESSAGE)]) for n in range(int(rate * (seconds + 1)))]
    flood = asyncio.create_task(loop.run(bodies, rate))
    await asyncio.sleep(1)
    taken = await freshness.run(seconds)
    await flood
    return taken


def measure(seconds: float, quota: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = {"AUDIENCE_QUOTA_CHANGES_PER_SECOND": str(quota), "AUDIENCE_QUOTA_BURST": str(QUOTA)}
        with started(Path(folder), **settings) as stack:
            keys = {account: stack.new_account(account) for account in ("modest", "greedy")}
            for key in keys.values():
                assert stack.subscribe(1, key=key).status_code == 200
            freshness, loop = Freshness(stack, "modest", keys["modest"]), OpenLoop(stack.ready["gateway_url"])
            asyncio.run(freshness.run(3))
            quiet: list[float] = []
            noisy: list[float] = []
            for _ in range(ROUNDS):
                quiet += asyncio.run(freshness.run(seconds / ROUNDS))
                noisy += asyncio.run(flooded(loop, keys["greedy"], freshness, seconds / ROUNDS))
            say(f"{f'quota of {quota}/s' if quota else 'no quota'}: quiet {shares(quiet)}")
            say(f"    flooded {shares(noisy)}; the flood's answers {loop.figures.statuses}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    duration = float(sys.argv[1]) if len(sys.argv) > 1 else 20
    for limit in (QUOTA, 0):
        measure(duration, limit)
