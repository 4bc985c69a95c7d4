"""What the system promises, seen from outside."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.topics import TOPICS
from tests.pipeline.running import Stack, eventually


def test_the_first_enter_shows_the_audience_within_a_second_and_the_last_exit_hides_it(stack: Stack) -> None:
    assert stack.subscribe(2001).status_code == 200
    assert 2001 not in stack.listing()
    assert stack.listing(populated="false")[2001] == 0

    assert stack.change("p-1", 2001, "add").status_code == 200
    eventually(lambda: stack.listing().get(2001), 1, 1)
    eventually(lambda: stack.segments("p-1"), 1, {"2001": "member"})

    assert stack.change("p-1", 2001, "delete").status_code == 200
    eventually(lambda: stack.listing().get(2001), 1, None)
    eventually(lambda: stack.segments("p-1"), 1, {"2001": "left"})


def test_a_removed_audience_is_out_at_once_and_no_late_change_brings_members_back(stack: Stack) -> None:
    echo = stack.subscribe(2002).json()["audience_subscription_settings"]
    assert stack.change("p-2", 2002, "add", echo=echo).status_code == 200
    eventually(lambda: stack.listing().get(2002), 1, 1)

    assert stack.subscribe(2002, "remove").status_code == 200
    assert stack.segments("p-2") == {}
    eventually(lambda: stack.listing().get(2002), 1, None)

    before = time.time_ns() // 1_000_000 - 60_000
    assert stack.subscribe(2002).status_code == 200
    assert stack.change("p-2", 2002, "add", echo=echo).status_code == 200
    assert stack.change("p-3", 2002, "add", timestamp_ms=before).status_code == 200
    assert stack.change("p-4", 2002, "add").status_code == 200
    eventually(lambda: stack.listing().get(2002), 1, 1)
    eventually(lambda: stack.segments("p-4"), 1, {"2002": "member"})
    assert stack.segments("p-2") == {}
    assert stack.segments("p-3") == {}


def test_the_newest_change_wins_whatever_the_order_of_arrival(stack: Stack) -> None:
    assert stack.subscribe(2003).status_code == 200
    now = time.time_ns() // 1_000_000
    assert stack.change("p-5", 2003, "delete", timestamp_ms=now).status_code == 200
    assert stack.change("p-5", 2003, "add", timestamp_ms=now - 5000).status_code == 200
    assert stack.change("p-6", 2003, "add", timestamp_ms=now).status_code == 200
    eventually(lambda: stack.segments("p-6"), 1, {"2003": "member"})
    eventually(lambda: stack.segments("p-5"), 1, {"2003": "left"})


def test_one_malformed_profile_harms_none_of_its_neighbours(stack: Stack) -> None:
    good = [{"mpid": f"n-{n}", "audiences": [{"audience_id": 2004, "action": "add"}]} for n in range(499)]
    bad = {"mpid": {"no": "text"}, "audiences": 7}
    answer = stack.message("audience_membership_change_request", user_profiles=[*good[:250], bad, *good[250:]])
    assert answer.status_code == 200
    stack.subscribe(2004)
    eventually(lambda: stack.listing().get(2004), 2, 499)


def test_a_revoked_key_suspends_within_five_seconds_and_an_unknown_key_is_401(stack: Stack) -> None:
    secret = stack.new_account("revoked-key")
    [key] = stack.api("GET", "/v1/accounts/revoked-key/api-keys").json()["api_keys"]
    assert stack.change("k-1", 1, "add", secret).json()["suspend_subscription"] is False
    assert stack.api("DELETE", f"/v1/accounts/revoked-key/api-keys/{key['id']}").status_code == 204
    eventually(lambda: stack.change("k-1", 1, "add", secret).json()["suspend_subscription"], 5, True)
    assert stack.change("k-1", 1, "add", "unknown-key").status_code == 401


def test_accounts_are_walls(stack: Stack) -> None:
    keys = {account: stack.new_account(account) for account in ("wall-a", "wall-b")}
    for account, key in keys.items():
        assert stack.subscribe(3001, key=key, audience_name=account).status_code == 200
    # the key decides, whatever account the body claims
    assert stack.change("w-1", 3001, "add", keys["wall-a"], account_id=2).status_code == 200
    eventually(lambda: stack.segments("w-1", "wall-a"), 1, {"3001": "member"})
    assert stack.segments("w-1", "wall-b") == {}
    assert stack.listing("wall-b") == {}
    assert stack.change("w-1", 3001, "delete", keys["wall-b"]).status_code == 200
    assert stack.subscribe(3001, "remove", key=keys["wall-b"]).status_code == 200
    assert stack.api("DELETE", "/v1/accounts/wall-b/visitors/w-1").status_code == 202
    time.sleep(0.5)  # nothing to wait for: what must not happen has had its time
    assert stack.segments("w-1", "wall-a") == {"3001": "member"}
    assert stack.listing("wall-a") == {3001: 1}
    api = f"{stack.ready['api_url']}/v1/accounts/wall-a/audiences"
    for token in (*keys.values(), "x"):
        assert stack.http.get(api, headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_an_erased_visitor_stays_erased_when_late_adds_arrive(stack: Stack) -> None:
    assert stack.subscribe(2005).status_code == 200
    identities = [{"type": "email", "encoding": "raw", "value": "Jo.Doe@Example.com"}]
    profile = {"mpid": "e-1", "user_identities": identities, "audiences": [{"audience_id": 2005, "action": "add"}]}
    assert stack.message("audience_membership_change_request", user_profiles=[profile]).status_code == 200
    eventually(lambda: stack.segments("e-1"), 1, {"2005": "member"})
    erased = {"email": {"encoding": "raw", "value": "jo.doe@example.com"}}
    answer = stack.message("dsr_processing_request", subject_request_type="erasure", subject_identities=erased)
    assert answer.json()["type"] == "dsr_processing_response"
    eventually(lambda: stack.segments("e-1"), 1, {})
    eventually(lambda: stack.listing().get(2005), 1, None)
    assert stack.change("e-1", 2005, "add").status_code == 200
    assert stack.change("e-2", 2005, "add").status_code == 200
    eventually(lambda: stack.listing().get(2005), 1, 1)
    assert stack.segments("e-1") == {}


def test_every_segments_answer_is_one_that_every_sdk_accepts(stack: Stack) -> None:
    assert stack.subscribe(2006).status_code == 200
    assert stack.change("s-1", 2006, "add").status_code == 200
    eventually(lambda: stack.segments("s-1"), 1, {"2006": "member"})
    for mpid in ("s-1", "nobody"):
        answer = stack.segments_answer(mpid)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "content-encoding" not in answer.headers
        for row in answer.json():
            assert set(row) == {"visitor_id", "segment", "value", "expiration", "partner"}
            assert row["visitor_id"] == mpid
            assert row["partner"] == "mparticle"
            assert isinstance(row["value"], str)
            assert isinstance(row["expiration"], int)
            assert time.time() < row["expiration"] < 2**31


def test_verify_finds_a_count_that_was_changed_by_hand(stack: Stack) -> None:
    assert stack.subscribe(2007).status_code == 200
    assert stack.change("v-1", 2007, "add").status_code == 200
    eventually(lambda: stack.listing().get(2007), 1, 1)
    clean = stack.command("verify")
    assert (clean.returncode, clean.stdout.splitlines()[-1]) == (0, "drift 0"), clean.stderr
    shard = shard_of(visitor_key("demo", "v-1"), int(stack.ready["environment"]["AUDIENCE_SHARDS"]))
    client = redis.Redis.from_url(stack.ready["redis_url"])
    client.hincrby(f"{{s{shard}}}:c", "demo:2007", 5)
    try:
        wrong = stack.command("verify")
        assert wrong.returncode == 1
        assert wrong.stdout.splitlines()[-1] == "drift 5"
    finally:
        client.hincrby(f"{{s{shard}}}:c", "demo:2007", -5)
        client.close()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_simulation_ends_without_a_difference_while_every_service_is_killed_in_turn(stack: Stack) -> None:
    import os
    import signal

    arguments = ["simulate", "--json", "--profiles", "3000", "--changes", "3000", "--seed", "11", "--rate", "150"]
    urls = ["--gateway-url", stack.ready["gateway_url"], "--api-url", stack.ready["api_url"]]
    secrets = ["--api-key", stack.ready["api_key"], "--admin-token", stack.ready["admin_token"]]
    with ThreadPoolExecutor() as pool:
        running = pool.submit(stack.command, *arguments, *urls, *secrets, timeout=170)
        for service in ("worker", "indexer", "gateway", "api", "worker"):
            time.sleep(2)  # under load, not at its edge
            killed = stack.service_pid(service)
            os.kill(killed, signal.SIGKILL)

            def came_back(service: str = service, killed: int = killed) -> bool:
                try:
                    return stack.service_pid(service) != killed
                except LookupError:
                    return False

            eventually(came_back, 15)
        result = running.result()
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout)["differences"] == 0
    verified = stack.command("verify")
    assert verified.stdout.splitlines()[-1] == "drift 0"


def records_of(stack: Stack, topic: str) -> list[bytes]:
    """Key and value of every record of a topic."""
    shards = int(stack.ready["environment"]["AUDIENCE_SHARDS"])
    options = {"enable.partition.eof": True, "auto.offset.reset": "earliest", "group.id": "scan"}
    consumer = Consumer({"bootstrap.servers": stack.ready["kafka_bootstrap"], **options})
    consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in range(shards)])
    found: list[bytes] = []
    unread = set(range(shards))
    while unread:
        message = consumer.poll(10)
        assert message is not None, topic
        if message.error() is not None:
            unread.discard(message.partition() or 0)
            continue
        found += [part for part in (message.key(), message.value()) if isinstance(part, bytes)]
    consumer.close()
    assert found, topic
    return found


def test_no_log_topic_or_redis_key_holds_a_secret_or_an_address(stack: Stack) -> None:
    client = redis.Redis.from_url(stack.ready["redis_url"])
    held = [stack.log.read_bytes()]
    held.extend(key + b" " + client.dump(key) for key in client.scan_iter(count=1000))
    client.close()
    for topic in TOPICS:
        held.extend(records_of(stack, topic.name))
    held.extend(stack.http.get(f"{stack.ready[name]}/metrics").content for name in ("gateway_url", "api_url"))
    everything = b"\n".join(held).lower()
    for secret in (stack.ready["api_key"], stack.ready["admin_token"], "jo.doe@example.com"):
        assert secret.lower().encode() not in everything
