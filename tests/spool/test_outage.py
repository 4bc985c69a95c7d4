"""Kafka is away while requests go on. AUDIENCE_TEST_OUTAGE_S and AUDIENCE_TEST_OUTAGE_RATE make it long and heavy:

make test-kafka AUDIENCE_TEST_OUTAGE_S=60 AUDIENCE_TEST_OUTAGE_RATE=500 PYTEST_OPTIONS='-s -k outage'
"""

import asyncio
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from audience_stream.mparticle import Load, Plan
from tests.pipeline.running import Stack, eventually
from tests.spool.conftest import Broker, StartStack
from tests.spool.load import Figures, OpenLoop

ON_APACHE = os.environ.get("AUDIENCE_TEST_ON") == "apache-kafka"
OUTAGE_S = float(os.environ.get("AUDIENCE_TEST_OUTAGE_S", "10" if ON_APACHE else "4"))
RATE = float(os.environ.get("AUDIENCE_TEST_OUTAGE_RATE", "200"))
MEASURES = "AUDIENCE_TEST_OUTAGE_S" in os.environ
AROUND_S = 2.0


def plan_of(stack: Stack, seconds: float) -> tuple[Plan, list[bytes]]:
    """Single changes of few visitors, so that each is hit often, on both sides of the outage's edges."""
    load = Load(300, 3, int(RATE * seconds), 100, duplicates=0.02, disorder=0.05, seed=3)
    plan = Plan(load, time.time_ns() // 1_000_000 - 3_600_000)
    messages = plan.messages()
    echoes = {a: stack.subscribe(a).json()["audience_subscription_settings"] for a in plan.audience_ids}
    account = {"account_id": 1, "account_settings": {"apiKey": stack.ready["api_key"]}}
    return plan, [json.dumps(message.body(account, echoes)).encode() for message in messages]


def differences(stack: Stack, plan: Plan) -> int:
    """Memberships and counts that are not as the plan has them."""
    expected = plan.expected()
    wanted = {a: sum(a in audiences for audiences in expected.values()) for a in plan.audience_ids}
    listed = stack.listing()
    found = sum(abs(listed.get(a, 0) - count) for a, count in wanted.items())
    for mpid, audiences in expected.items():
        shown = {int(s) for s, value in stack.segments(mpid).items() if value == "member"}
        found += len((shown & set(plan.audience_ids)) ^ audiences)
    return found


def spooled(stack: Stack) -> float:
    metrics = stack.http.get(f"{stack.ready['gateway_url']}/metrics").text
    [line] = [line for line in metrics.splitlines() if line.startswith("audience_gateway_spool_records ")]
    return float(line.split()[1])


def run_load(stack: Stack, bodies: list[bytes]) -> Figures:
    loop = OpenLoop(stack.ready["gateway_url"])
    checks = [json.dumps({"type": "audience_membership_change_request"}).encode()] * 100
    asyncio.run(loop.run(checks, RATE))
    loop.figures = Figures()
    asyncio.run(loop.run(bodies, RATE))
    return loop.figures


def say(text: str) -> None:
    sys.stderr.write(f"\n{text}\n")


@pytest.mark.timeout(120 + 3 * OUTAGE_S)
def test_with_a_spool_an_outage_is_answered_200_in_time_and_nothing_is_lost(
    broker: Broker, start_stack: StartStack, tmp_path: Path
) -> None:
    with start_stack(AUDIENCE_SPOOL_DIR=str(tmp_path / "spool")) as stack, ThreadPoolExecutor() as pool:
        plan, bodies = plan_of(stack, OUTAGE_S + 2 * AROUND_S)
        running = pool.submit(run_load, stack, bodies)
        time.sleep(AROUND_S)
        broker.away()
        gone = time.monotonic()
        eventually(lambda: spooled(stack) > 0, 5)
        ready = stack.http.get(f"{stack.ready['gateway_url']}/readyz")
        time.sleep(max(0.0, gone + OUTAGE_S - time.monotonic()))
        broker.back()
        back = time.monotonic()
        figures = running.result()
        eventually(lambda: spooled(stack), 60, 0)
        drained = time.monotonic() - back
        eventually(lambda: differences(stack, plan), 60, 0)
        applied = time.monotonic() - back
        say(f"outage of {OUTAGE_S:g} s at {RATE:g}/s: {figures}; drained {drained:.1f} s, exact {applied:.1f} s after")
        assert figures.statuses == {200: len(bodies)}
        if MEASURES:  # a short run among other tests measures its neighbours
            assert figures.share(0.99) < 100
        assert applied < 60
        assert ready.status_code == 200
        assert stack.command("verify").stdout.splitlines()[-1] == "drift 0"


@pytest.mark.timeout(120 + 3 * OUTAGE_S)
def test_a_gateway_killed_during_an_outage_drains_what_it_had_acknowledged(
    broker: Broker, start_stack: StartStack, tmp_path: Path
) -> None:
    with start_stack(AUDIENCE_SPOOL_DIR=str(tmp_path / "spool")) as stack:
        assert stack.subscribe(7001).status_code == 200
        broker.away()
        try:
            for n in range(50):
                assert stack.change(f"k-{n}", 7001, "add").status_code == 200
            killed = stack.service_pid("gateway")
            os.kill(killed, 9)
            # the next one answers without Kafka, since it has a spool
            eventually(lambda: gateway_answers(stack), 20)
            for n in range(50, 60):
                assert stack.change(f"k-{n}", 7001, "add").status_code == 200
        finally:
            broker.back()
        eventually(lambda: stack.listing().get(7001), 60, 60)


@pytest.mark.timeout(120)
def test_a_full_spool_is_503_and_not_ready_until_kafka_is_back(
    broker: Broker, start_stack: StartStack, tmp_path: Path
) -> None:
    with start_stack(AUDIENCE_SPOOL_DIR=str(tmp_path / "spool"), AUDIENCE_SPOOL_BYTES="3000") as stack:
        assert stack.subscribe(7003).status_code == 200
        url = stack.ready["gateway_url"]
        broker.away()
        try:
            taken = 0
            while stack.change(f"f-{taken}", 7003, "add").status_code == 200:
                taken += 1
                assert taken < 100
            eventually(lambda: stack.http.get(f"{url}/readyz").status_code, 10, 503)
            assert "the spool has no room" in stack.http.get(f"{url}/readyz").json()["missing"]
        finally:
            broker.back()
        assert taken > 3
        eventually(lambda: stack.http.get(f"{url}/readyz").status_code, 30, 200)
        eventually(lambda: stack.change("f-last", 7003, "add").status_code, 30, 200)
        eventually(lambda: stack.listing().get(7003, 0) > taken, 60)


def gateway_answers(stack: Stack) -> bool:
    import httpx

    try:
        return stack.http.get(f"{stack.ready['gateway_url']}/livez").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.timeout(120 + 3 * OUTAGE_S)
def test_without_a_spool_an_outage_is_503_and_a_sender_that_repeats_loses_nothing(
    broker: Broker, start_stack: StartStack
) -> None:
    with start_stack() as stack:
        assert stack.subscribe(7002).status_code == 200
        arguments = ["simulate", "--json", "--profiles", "200", "--changes", "1500", "--rate", "150", "--seed", "4"]
        # the default, unless the outage is long: the pauses grow to 5 s, and those of the tries must outlast it
        arguments += ["--tries", str(max(12, int(OUTAGE_S / 2)))]
        urls = ["--gateway-url", stack.ready["gateway_url"], "--api-url", stack.ready["api_url"]]
        secrets = ["--api-key", stack.ready["api_key"], "--admin-token", stack.ready["admin_token"]]
        with ThreadPoolExecutor() as pool:
            running = pool.submit(stack.command, *arguments, *urls, *secrets, timeout=100 + 2 * OUTAGE_S)
            time.sleep(AROUND_S)
            broker.away()
            returning = threading.Timer(OUTAGE_S, broker.back)
            returning.start()
            try:
                started = time.monotonic()
                item = {"audience_id": 7002, "audience_name": "A", "action": "add"}
                body = {
                    "type": "audience_membership_change_request",
                    "account": {"account_settings": {"apiKey": stack.ready["api_key"]}},
                    "user_profiles": [{"mpid": "n-1", "audiences": [item]}],
                }
                answer = stack.http.post(f"{stack.ready['gateway_url']}/firehose", json=body)
                assert answer.status_code == 503
                assert answer.headers["retry-after"]
                assert time.monotonic() - started < 1
                assert stack.metric("gateway", "audience_gateway_unavailable_total", reason="kafka") > 0
            finally:
                returning.join()
            result = running.result()
        assert result.returncode == 0, result.stdout + result.stderr
        assert json.loads(result.stdout)["differences"] == 0
        assert json.loads(result.stdout)["retries"] > 0
