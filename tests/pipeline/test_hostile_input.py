"""Broken bodies, profiles, paths, headers, lengths and encodings: no 5xx, no traceback, and the good is applied."""

import gzip
import json
import socket
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.redis import keys
from tests.pipeline.running import Stack, eventually

AUDIENCE = 4001


def envelope(stack: Stack, **fields: Any) -> dict[str, Any]:
    return {
        "type": "audience_membership_change_request",
        "id": str(uuid.uuid4()),
        "timestamp_ms": time.time_ns() // 1_000_000,
        "account": {"account_id": 1, "account_settings": {"apiKey": stack.ready["api_key"]}},
        **fields,
    }


BAD_IDS: list[Any] = [None, True, "", "x", "1.5.2", [], {}, 2**31, -(2**31) - 1, 10**400, 1e300]
BAD_ACTIONS: list[Any] = [None, 0, "", "ADD", "remove", "add ", [], {}, "upsert"]
BAD_LISTS: list[Any] = [{}, "x", 7, True]
BAD_TIMES: list[Any] = ["2021-11-01T15:00:00Z", [], {}, True, "x"]
BAD_OBJECTS: list[Any] = ["x", 7, [], True]
BAD_SUBSCRIPTION_ACTIONS: list[Any] = [None, "delete", "ADD", 7, []]
BAD_SUBSCRIPTION_IDS: list[Any] = [None, 2**31, "x", [], True]

BAD_PROFILES: list[Any] = [
    None,
    0,
    1.5,
    True,
    "text",
    [],
    [[]],
    {},
    {"mpid": None},
    {"mpid": ""},
    {"mpid": []},
    {"mpid": {}},
    {"mpid": True},
    {"mpid": 1.5},
    {"mpid": "x" * 257},
    {"mpid": "a\u0000b"},
    {"mpid": "a\nb"},
    {"mpid": "h-1", "audiences": 7},
    {"mpid": "h-1", "audiences": "text"},
    {"mpid": "h-1", "audiences": {}},
    {"mpid": "h-1", "audiences": [None]},
    {"mpid": "h-1", "audiences": [[]]},
    {"mpid": "h-1", "audiences": ["text"]},
    {"mpid": "h-1", "audiences": [{}]},
    {"mpid": "h-1", "audiences": [{"audience_id": AUDIENCE}]},
    {"mpid": "h-1", "audiences": [{"action": "add"}]},
    *({"mpid": "h-1", "audiences": [{"audience_id": bad, "action": "add"}]} for bad in BAD_IDS),
    *({"mpid": "h-1", "audiences": [{"audience_id": AUDIENCE, "action": bad}]} for bad in BAD_ACTIONS),
    {"mpid": "h-1", "audiences": [{"audience_id": AUDIENCE, "action": "add", "audience_name": []}]},
    {"mpid": "h-1", "audiences": [{"audience_id": AUDIENCE, "action": "add", "audience_subscription_settings": 7}]},
]

ODD_BUT_GOOD_FIELDS: list[dict[str, Any]] = [
    {"user_identities": 7},
    {"user_identities": [None, 7, "x", {}, {"type": 1}, {"type": "email", "encoding": "rot13", "value": "x"}]},
    {"device_identities": {"a": "b"}},
    {"partner_identities": [{"type": "x", "encoding": "raw", "value": None}]},
    {"user_attributes": "ignored", "unknown": {"deep": [1, {"x": None}]}},
]


def broken_bodies(stack: Stack) -> list[bytes]:
    good = json.dumps(envelope(stack)).encode()
    messages: list[Any] = [
        [],
        7,
        "text",
        None,
        True,
        {},
        {"type": None},
        {"type": 7},
        {"type": []},
        {"type": "audience_membership_change_response"},
        *(envelope(stack, user_profiles=bad) for bad in BAD_LISTS),
        *(envelope(stack, timestamp_ms=bad) for bad in BAD_TIMES),
        *(envelope(stack, account=bad) for bad in BAD_OBJECTS),
        envelope(stack, account={"account_settings": []}),
        envelope(stack, id=[]),
        *(
            envelope(stack, type="audience_subscription_request", audience_id=AUDIENCE, action=bad)
            for bad in BAD_SUBSCRIPTION_ACTIONS
        ),
        *(
            envelope(stack, type="audience_subscription_request", audience_id=bad, action="add")
            for bad in BAD_SUBSCRIPTION_IDS
        ),
        envelope(stack, type="dsr_processing_request", subject_request_type="access"),
    ]
    return [
        b"",
        b"not json",
        b"{",
        b"}",
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf" + good,
        good[:-1],
        good + b"x",
        good.replace(b"audience_m", b"\xff\xff", 1),
        b"[" * 5000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"type":"\\ud83d"}',
        *(json.dumps(message).encode() for message in messages),
    ]


def test_a_broken_body_is_answered_with_a_clear_4xx_and_never_a_5xx(stack: Stack) -> None:
    for body in broken_bodies(stack):
        answer = stack.http.post(f"{stack.ready['gateway_url']}/firehose", content=body)
        assert answer.status_code in {400, 401}, (body[:80], answer.text)
        assert set(answer.json()) == {"error", "message"}
        assert "Traceback" not in answer.text


def test_bad_profiles_become_dead_letters_and_good_neighbours_are_applied(stack: Stack) -> None:
    assert stack.subscribe(AUDIENCE).status_code == 200
    good = [
        {"mpid": f"good-{n}", "audiences": [{"audience_id": AUDIENCE, "action": "add"}], **fields}
        for n, fields in enumerate([*ODD_BUT_GOOD_FIELDS, {}])
    ]
    for bad in BAD_PROFILES:
        assert stack.post(envelope(stack, user_profiles=[bad])).status_code == 200, bad
    assert stack.post(envelope(stack, user_profiles=[*BAD_PROFILES, *good])).status_code == 200
    eventually(lambda: stack.listing().get(AUDIENCE), 2, len(good))
    assert stack.segments("h-1") == {}
    letters = json.loads(stack.command("dlq", "list", "--json", "--limit", "1000").stdout)
    assert {"profile_malformed", "audience_malformed", "mpid_missing"} <= {letter["reason"] for letter in letters}


def test_wrong_methods_paths_and_encodings_are_refused(stack: Stack) -> None:
    url = stack.ready["gateway_url"]
    good = json.dumps(envelope(stack)).encode()
    assert stack.http.get(f"{url}/firehose").status_code == 405
    for path in ("/", "/firehose/", "/firehose/../firehose2", "/%2e%2e/etc/passwd", "/" + "x" * 5000):
        assert stack.http.post(f"{url}{path}", content=good).status_code == 404
    assert stack.post(good, Content_Encoding="br").status_code == 415
    assert stack.post(good, Content_Encoding="gzip").status_code == 400
    assert stack.post(gzip.compress(good)[:-9], Content_Encoding="gzip").status_code == 400
    assert stack.post(gzip.compress(good), Content_Encoding="gzip").status_code == 200
    assert stack.post(good, Content_Type="text/plain").status_code == 200


def test_a_body_over_the_limit_is_413_also_when_it_is_packed(stack: Stack) -> None:
    large = b" " * 5_000_001
    assert stack.post(large).status_code == 413
    assert stack.post(gzip.compress(large), Content_Encoding="gzip").status_code == 413


def test_what_would_not_fit_into_one_record_of_kafka_is_split_refused_or_left_out(stack: Stack) -> None:
    many = [{"audience_id": 50_000 + n, "action": "add"} for n in range(10_500)]
    email = [{"type": "other", "encoding": "raw", "value": str(n)} for n in range(10_500)]
    profile = {"mpid": "large-1", "audiences": many, "user_identities": email}
    assert stack.post(envelope(stack, user_profiles=[profile])).status_code == 200
    shard = shard_of(visitor_key("demo", "large-1"), int(stack.ready["environment"]["AUDIENCE_SHARDS"]))
    client = redis.Redis.from_url(stack.ready["redis_url"])
    eventually(lambda: client.scard(keys.of_visitor(shard, "demo", "large-1").members), 20, 10_500)
    named = {f"other{n}": {"encoding": "raw", "value": str(n)} for n in range(3_400)}
    request = envelope(stack, type="dsr_processing_request", subject_identities={"other": named["other7"], **named})
    assert stack.post(request).status_code == 200
    eventually(lambda: client.scard(keys.of_visitor(shard, "demo", "large-1").members), 20, 0)
    client.close()
    odd = {"mpid": ["x"], "audiences": [{"audience_name": "x" * 500, "action": "y"} for _ in range(8000)]}
    assert stack.post(envelope(stack, user_profiles=[odd])).status_code == 200
    kind = "audience_subscription_request"
    large = envelope(stack, type=kind, audience_id=AUDIENCE, action="update", audience_description="x" * 1_500_000)
    assert stack.post(large).status_code == 413


def test_a_body_full_of_junk_is_counted_and_the_good_in_it_is_applied(stack: Stack) -> None:
    def malformed() -> float:
        return stack.metric("gateway", "audience_dead_letters_total", reason="audience_malformed")

    assert stack.subscribe(AUDIENCE + 1).status_code == 200
    before = malformed()
    good = {"audience_id": AUDIENCE + 1, "action": "add"}
    profiles = [{"mpid": "junk-1", "audiences": [*[0] * 100_000, good]}, {"mpid": "junk-2", "audiences": [good]}]
    assert stack.post(envelope(stack, user_profiles=profiles)).status_code == 200
    eventually(lambda: [list(stack.segments(mpid)) for mpid in ("junk-1", "junk-2")], 5, [[str(AUDIENCE + 1)]] * 2)
    assert malformed() - before == 100_000


@pytest.mark.timeout(60)
def test_a_slow_sender_is_cut_off(stack: Stack) -> None:
    target = urlsplit(stack.ready["gateway_url"])
    for start in (
        b"POST /firehose HTTP/1.1\r\nHost: x\r\n",
        b"",
        b"POST /firehose HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    ):
        with socket.create_connection((str(target.hostname), target.port or 80)) as connection:
            connection.sendall(start)
            connection.settimeout(20)
            answer = connection.recv(4096)
            assert answer == b"" or b" 408 " in answer.split(b"\r\n")[0]


def test_raw_rubbish_on_the_socket_harms_nobody(stack: Stack) -> None:
    target = urlsplit(stack.ready["gateway_url"])
    for rubbish in (b"\x16\x03\x01\x02\x00" * 20, b"GET\r\n\r\n", b"POST /firehose HTTP/9.9\r\n\r\n", b"\r\n" * 50):
        with socket.create_connection((str(target.hostname), target.port or 80)) as connection:
            connection.sendall(rubbish)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(20)
            assert b" 500 " not in connection.recv(4096)
    assert stack.message("audience_membership_change_request").status_code == 200


def test_hostile_ids_on_the_segment_api_are_unknown_visitors(stack: Stack) -> None:
    for mpid in ("../../etc", "a/b", "%00", "\u0000", "x" * 5000, "é🙂", "a b", "*", "{s1}:c"):
        answer = stack.segments_answer(mpid)
        assert answer.status_code == 200, mpid
        assert answer.json() == []
    for account in ("no-such", "a:b", "*", "x" * 300):
        assert stack.segments_answer("1", account).json() == []


def test_an_answer_to_head_arrives_though_no_body_follows(stack: Stack) -> None:
    for url in (f"{stack.ready['gateway_url']}/livez", f"{stack.ready['api_url']}/accounts/demo/segments/1"):
        for _ in range(2):  # on a kept connection too
            answer = stack.http.head(url, timeout=5)
            assert (answer.status_code, answer.content) == (200, b"")


def test_a_time_beyond_every_clock_becomes_dead_letters_like_any_time_ahead(stack: Stack) -> None:
    profiles = [{"mpid": "far-1", "audiences": [{"audience_id": 7, "audience_name": "A", "action": "add"}]}]
    message = {
        "type": "audience_membership_change_request",
        "timestamp_ms": 10**30,
        "account": {"account_settings": {"apiKey": stack.ready["api_key"]}},
        "user_profiles": profiles,
    }
    assert stack.post(message).status_code == 200
