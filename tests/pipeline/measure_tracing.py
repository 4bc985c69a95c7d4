"""What tracing costs: a system without it, with 1 % and with all requests traced, under the same load.

Example: python -m tests.pipeline.measure_tracing --rate 2000 --seconds 10 --rounds 3

Prints a row for each round: each service's processor time for a request, and the time to the request's answer. Rounds
take turns, so that whatever else the machine does is in all of them.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.pipeline.collector import Collector
from tests.pipeline.running import Stack
from tests.pipeline.starting import started
from tests.spool.load import OpenLoop

AUDIENCE = 1
SERVICES = ("gateway", "worker", "indexer")


def bodies(key: str, count: int) -> Iterator[bytes]:
    for n in range(count):
        item = {"audience_id": AUDIENCE, "audience_name": "A", "action": "add" if n % 3 else "delete"}
        message = {
            "type": "audience_membership_change_request",
            "timestamp_ms": time.time_ns() // 1_000_000,
            "account": {"account_id": 1, "account_settings": {"apiKey": key}},
            "user_profiles": [{"mpid": str(n % 5000), "audiences": [item]}],
        }
        yield json.dumps(message).encode()


def processor_time(stack: Stack) -> dict[str, float]:
    """Service → seconds of user and system time so far."""
    found = {}
    for service in SERVICES:
        fields = Path(f"/proc/{stack.service_pid(service)}/stat").read_text().rpartition(")")[2].split()
        found[service] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def round_of(name: str, stack: Stack, rate: float, seconds: float) -> str:
    loop = OpenLoop(stack.ready["gateway_url"])
    requests = int(rate * seconds)
    before = processor_time(stack)
    asyncio.run(loop.run(bodies(str(stack.ready["api_key"]), requests), rate))
    time.sleep(1)  # worker and indexer finish what is on its way, and the spans are sent
    spent = {service: after - before[service] for service, after in processor_time(stack).items()}
    costs = "  ".join(f"{service} {1e6 * spent[service] / requests:6.0f} µs" for service in SERVICES)
    return f"{name:>8}  {costs}  {loop.figures}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=2000, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10, help="length of a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each kind")
    options = parser.parse_args()
    with ExitStack() as running, Collector() as collector:
        stacks = {}
        for name, ratio in (("off", None), ("1 %", "0.01"), ("all", "1")):
            tracing = {"AUDIENCE_TRACING_ENDPOINT": collector.url, "AUDIENCE_TRACING_RATIO": ratio} if ratio else {}
            folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
            stacks[name] = running.enter_context(started(folder, **tracing))
            assert stacks[name].subscribe(AUDIENCE).status_code == 200
            round_of(name, stacks[name], options.rate, 1)
        for _ in range(options.rounds):
            for name, stack in stacks.items():
                sys.stdout.write(round_of(name, stack, options.rate, options.seconds) + "\n")
                sys.stdout.flush()
        sys.stdout.write(f"{len(collector.traces)} traces were received\n")


if __name__ == "__main__":
    main()
