"""Every body that mParticle's SDK makes is answered and takes effect as tests/vectors/expected.jsonl says."""

import json
import random
import time
import uuid
from pathlib import Path
from typing import Any

from tests.pipeline.running import Stack, eventually

VECTORS = Path(__file__).parents[1] / "vectors"
CASES = [json.loads(line) for line in (VECTORS / "expected.jsonl").read_text("utf-8").splitlines()]
# no account, so no key that could say whose profiles these are
WITHOUT_KEY = {"account-missing"}
Member = tuple[str, str, int]


def body_of(case: dict[str, Any], keys: dict[int, str]) -> bytes:
    """The vector with a key that exists, for the account that it claims."""
    raw: bytes = (VECTORS / case["file"]).read_bytes()
    try:
        message = json.loads(raw)
        account = message["account"]
        key = keys[int(account["account_id"])]
    except (ValueError, KeyError, TypeError):
        return raw
    account["account_settings"] = {**(account.get("account_settings") or {}), "apiKey": key}
    return json.dumps(message).encode()


def expected_members() -> set[Member]:
    """Newest wins per (account, MPID, audience); array order decides inside a message."""
    ahead = (time.time() + 86_400) * 1000
    newest: dict[Member, tuple[int, int]] = {}
    for case in CASES:
        if case["case"] in WITHOUT_KEY:
            continue
        for account, mpid, audience, direction, at in case["effects"]:
            if direction == "none" or at > ahead:
                continue
            member = (f"v{account}".replace("-", "n"), mpid, audience)
            occurred_at = max(at, 1)
            if member not in newest or occurred_at >= newest[member][0]:
                newest[member] = (occurred_at, direction)
    return {member for member, (_, direction) in newest.items() if direction == 1}


def touched_visitors() -> set[tuple[str, str]]:
    return {
        (f"v{effect[0]}".replace("-", "n"), effect[1])
        for case in CASES
        if case["case"] not in WITHOUT_KEY
        for effect in case["effects"]
    }


def make_accounts(stack: Stack) -> dict[int, str]:
    numbers = {effect[0] for case in CASES for effect in case["effects"]} | {
        case["account_id"] for case in CASES if "account_id" in case
    }
    return {number: stack.new_account(f"v{number}".replace("-", "n")) for number in numbers | {1, 2147483648}}


def members(stack: Stack) -> set[Member]:
    return {
        (account, mpid, int(segment))
        for account, mpid in touched_visitors()
        for segment, value in stack.segments(mpid, account).items()
        if value == "member"
    }


def settle(stack: Stack, accounts: dict[int, str]) -> None:
    """Wait until every shard has applied what was posted before: a marker visitor for each of many shards."""
    key = accounts[2]
    markers = [f"marker-{uuid.uuid4()}" for _ in range(64)]
    for marker in markers:
        assert stack.change(marker, 99, "add", key).status_code == 200
    for marker in markers:
        eventually(lambda marker=marker: stack.segments(marker, "v2"), 10, {"99": "member"})  # type: ignore[misc]


def test_every_vector_is_answered_and_replays_in_any_order_end_in_the_same_state(stack: Stack) -> None:
    accounts = make_accounts(stack)
    for audience in (456, 789, 2):
        assert stack.subscribe(audience, key=accounts[123456], timestamp_ms=1).status_code == 200
    chooser = random.Random(7)
    listings, visitors = [], []
    for round_number in range(4):
        cases = CASES if round_number == 0 else chooser.sample(CASES + CASES, 2 * len(CASES))
        for case in cases:
            answer = stack.post(body_of(case, accounts))
            check_answer(case, answer.status_code, answer.content)
        settle(stack, accounts)
        assert members(stack) == expected_members()
        listings.append(stack.listing("v123456"))
        visitors.append(
            [
                (a, m, stack.api("GET", f"/v1/accounts/{a}/visitors/{m}").json())
                for a, m in sorted(touched_visitors())
                if m.lstrip("-").isdigit()
            ]
        )
    assert listings[0]
    assert 1234 not in listings[0]
    assert listings == [listings[0]] * 4
    assert visitors == [visitors[0]] * 4


def check_answer(case: dict[str, Any], status: int, content: bytes) -> None:
    if case["case"] in WITHOUT_KEY:
        assert status == 401, case
    elif case["sdk_accepts"]:
        assert status == 200, (case, content)
        answer = json.loads(content)
        assert answer["type"] == case["expected_response_type"]
        assert str(uuid.UUID(answer["id"])) == case["id"]
        assert isinstance(answer["timestamp_ms"], int)
        if answer["type"] == "audience_membership_change_response":
            assert answer["suspend_subscription"] is False
    else:
        assert status in {200, 400}, (case, content)
        json.loads(content)
