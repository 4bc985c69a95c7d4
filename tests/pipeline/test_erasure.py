"""Erased means erased: by every identity that an erasure may name, everywhere, and for good."""

import hashlib
import json
import time
import uuid
from typing import Any

import httpx
import pytest
import redis

from audience_core.codec import Codec
from audience_core.domain.mpids import pack_mpid
from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.topics import DEAD_LETTERS, ERASURES
from tests.pipeline.running import Stack, eventually
from tests.pipeline.test_promises import records_of

AUDIENCE = 8001
SUBMITTED: list[Any] = ["2021-11-01T15:00:00Z", 1714592744, 1714592744067]


def address() -> str:
    return f"Erase.{uuid.uuid4().hex[:12]}@Example.com"


def encoded(value: str, encoding: str) -> str:
    return value if encoding == "raw" else hashlib.new(encoding, value.lower().encode()).hexdigest()


def enter(stack: Stack, mpid: str, *identities: dict[str, str], field: str = "user_identities") -> None:
    profile = {"mpid": mpid, field: list(identities), "audiences": [{"audience_id": AUDIENCE, "action": "add"}]}
    assert stack.message("audience_membership_change_request", user_profiles=[profile]).status_code == 200


def erase(stack: Stack, **fields: Any) -> str:
    request_id = str(uuid.uuid4())
    common = {"subject_request_id": request_id, "subject_request_type": "erasure", "regulation": "gdpr"}
    answer = stack.message("dsr_processing_request", **common, **fields)
    assert (answer.status_code, answer.json()["type"]) == (200, "dsr_processing_response")
    return request_id


def receipt(stack: Stack, request_id: str) -> dict[str, Any]:
    answer = stack.api("GET", f"/v1/accounts/demo/erasures/{request_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def done(stack: Stack, request_id: str) -> dict[str, Any]:
    eventually(lambda: receipt(stack, request_id)["status"], 5, "done")
    return receipt(stack, request_id)


@pytest.fixture(autouse=True)
def subscribed(stack: Stack) -> None:
    assert stack.subscribe(AUDIENCE).status_code == 200


@pytest.mark.parametrize("encoding", ["raw", "md5", "sha1", "sha256"])
def test_a_raw_address_finds_a_profile_that_came_with_it_in_any_encoding(stack: Stack, encoding: str) -> None:
    mail, mpid = address(), f"enc-{uuid.uuid4()}"
    enter(stack, mpid, {"type": "email", "encoding": encoding, "value": encoded(mail, encoding)})
    eventually(lambda: stack.segments(mpid), 2, {str(AUDIENCE): "member"})
    request_id = erase(stack, subject_identities={"email": {"encoding": "raw", "value": mail.upper()}})
    eventually(lambda: stack.segments(mpid), 2, {})
    told = done(stack, request_id)
    assert (told["visitors"], told["memberships"], told["identities"]) == (1, 1, 1)
    assert told["shards"]["total"] == told["shards"]["done"] == int(stack.ready["environment"]["AUDIENCE_SHARDS"])


@pytest.mark.parametrize("encoding", ["md5", "sha1", "sha256"])
def test_a_hashed_address_finds_a_profile_that_came_with_the_same_hash(stack: Stack, encoding: str) -> None:
    mail, mpid = address(), f"hash-{uuid.uuid4()}"
    enter(stack, mpid, {"type": "email", "encoding": encoding, "value": encoded(mail, encoding)})
    named = {"email": {"encoding": encoding, "value": encoded(mail, encoding).upper()}}
    assert done(stack, erase(stack, subject_identities=named))["visitors"] == 1
    assert stack.segments(mpid) == {}


@pytest.mark.parametrize(
    ("profile_type", "field", "dsr_type"),
    [
        ("customer", "user_identities", "controller_customer_id"),
        ("google_advertising_id", "device_identities", "android_advertising_id"),
        ("ios_vendor_id", "device_identities", "ios_vendor_id"),
        ("roku_publisher_id", "device_identities", "roku_publisher_id"),
    ],
)
def test_an_erasure_in_opendsrs_words_finds_an_identity_in_mparticles(
    stack: Stack, profile_type: str, field: str, dsr_type: str
) -> None:
    value, mpid = str(uuid.uuid4()), f"word-{uuid.uuid4()}"
    hashed = {"type": profile_type, "encoding": "sha256", "value": encoded(value, "sha256")}
    enter(stack, mpid, hashed, field=field)
    assert (
        done(stack, erase(stack, subject_identities={dsr_type: {"encoding": "raw", "value": value}}))["visitors"] == 1
    )
    assert stack.segments(mpid) == {}


@pytest.mark.parametrize("submitted", ["1714592744.067235000", *map(json.dumps, SUBMITTED)])
def test_every_shape_of_the_submitted_time_is_taken(stack: Stack, submitted: str) -> None:
    mail, mpid = address(), f"time-{uuid.uuid4()}"
    enter(stack, mpid, {"type": "email", "encoding": "raw", "value": mail})
    request_id = str(uuid.uuid4())
    body = {
        "type": "dsr_processing_request",
        "id": str(uuid.uuid4()),
        "timestamp_ms": time.time_ns() // 1_000_000,
        "account": {"account_id": 1, "account_settings": {"apiKey": stack.ready["api_key"]}},
        "subject_request_id": request_id,
        "subject_identities": {"email": {"encoding": "raw", "value": mail}},
        "submitted_time": 0,
    }
    # as text: the nine digits after the point are part of the shape
    answer = stack.post(json.dumps(body).replace('"submitted_time": 0', f'"submitted_time": {submitted}').encode())
    assert answer.status_code == 200, answer.text
    assert done(stack, request_id)["visitors"] == 1


def test_identities_in_the_extensions_are_honoured_an_mpid_too(stack: Stack) -> None:
    other, by_other, by_mpid = str(uuid.uuid4()), f"ext-{uuid.uuid4()}", f"ext-{uuid.uuid4()}"
    enter(stack, by_other, {"type": "other6", "encoding": "raw", "value": other})
    enter(stack, by_mpid)
    named = {
        "other6": {"encoding": "raw", "value": other},
        "mpid": {"encoding": "raw", "value": by_mpid},
        "unknown": {"encoding": "rot13", "value": "x"},
    }
    extensions = {"opendsr.mparticle.com": {"subject_identities": named}, "example.com": 7}
    told = done(stack, erase(stack, extensions=extensions))
    assert (told["visitors"], told["memberships"], told["identities"]) == (2, 2, 1)
    assert stack.segments(by_other) == stack.segments(by_mpid) == {}


def test_a_receipt_tells_what_became_of_an_erasure_and_an_unknown_one_is_404(stack: Stack) -> None:
    mpid = f"receipt-{uuid.uuid4()}"
    enter(stack, mpid)
    answer = stack.api("DELETE", f"/v1/accounts/demo/visitors/{mpid}")
    told = done(stack, answer.json()["request_id"])
    assert told.pop("accepted_at").endswith("Z")
    assert told == {
        "request_id": answer.json()["request_id"],
        "status": "done",
        "shards": {"total": 1, "done": 1},
        "visitors": 1,
        "memberships": 1,
        "identities": 0,
    }
    key = stack.new_account(f"other-{uuid.uuid4().hex[:8]}")
    assert key
    for path in ("/v1/accounts/demo/erasures/no-such", "/v1/accounts/no-such/erasures/x"):
        assert stack.api("GET", path).status_code == 404
    anonymous = httpx.get(f"{stack.ready['api_url']}/v1/accounts/demo/erasures/x", trust_env=False)
    assert anonymous.status_code == 401


def test_a_request_id_that_might_hold_an_address_is_not_kept(stack: Stack) -> None:
    mail = address()
    named = {"email": {"encoding": "raw", "value": mail}}
    answer = stack.message("dsr_processing_request", subject_request_id=mail, subject_identities=named)
    assert answer.status_code == 200
    assert done(stack, answer.json()["id"])["visitors"] == 0


def redis_of(stack: Stack) -> "redis.Redis":
    return redis.Redis.from_url(stack.ready["redis_url"])


def everything_in(client: "redis.Redis") -> dict[bytes, bytes]:
    """Every key with its value, as text as far as it is one."""
    read: dict[bytes, Any] = {
        b"string": client.get,
        b"set": client.smembers,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
        b"none": lambda _: "",  # gone since it was listed
    }
    return {key: repr(read[client.type(key)](key)).encode() for key in client.scan_iter(count=1000)}  # type: ignore[index]


def replay_everything(stack: Stack) -> None:
    """Lose the state of every shard at one moment, and let the workers notice."""
    with redis_of(stack) as client:
        client.eval("for _, key in ipairs(redis.call('KEYS', '{s*')) do redis.call('DEL', key) end", 0)
    shards = int(stack.ready["environment"]["AUDIENCE_SHARDS"])
    markers: dict[int, str] = {}
    while len(markers) < shards:
        mpid = f"marker-{uuid.uuid4()}"
        markers.setdefault(shard_of(visitor_key("demo", mpid), shards), mpid)
    for mpid in markers.values():
        enter(stack, mpid)
    for mpid in markers.values():
        eventually(lambda mpid=mpid: stack.segments(mpid), 60, {str(AUDIENCE): "member"})  # type: ignore[misc]


def test_after_an_erasure_nothing_of_the_person_is_left_and_a_replay_of_the_whole_log_brings_nobody_back(
    stack: Stack,
) -> None:
    mail, mpid, kept = address(), str(uuid.uuid4().int % 2**63), f"kept-{uuid.uuid4()}"
    enter(stack, mpid, {"type": "email", "encoding": "raw", "value": mail})
    enter(stack, kept)
    bad = {"mpid": {"no": mail}, "user_identities": [{"type": "email", "encoding": "raw", "value": mail}]}
    assert stack.message("audience_membership_change_request", user_profiles=[bad]).status_code == 200
    eventually(lambda: stack.segments(mpid), 2, {str(AUDIENCE): "member"})
    request_id = erase(stack, subject_identities={"email": {"encoding": "raw", "value": mail}})
    first = done(stack, request_id)
    assert first["visitors"] == 1
    enter(stack, mpid)  # late
    for _ in range(2):
        check_nothing_is_left(stack, mail, mpid)
        replay_everything(stack)
        assert stack.segments(kept) == {str(AUDIENCE): "member"}
        assert stack.segments(mpid) == {}
    assert done(stack, request_id) == first
    audited = [Codec().decode(value)[1] for value in records_of(stack, ERASURES) if value.startswith(b"\xc3\x01")]
    mine = [record for record in audited if record["request_id"] == request_id]
    by_place = {(r["shard"], r["offset"]): (r["visitors"], r["memberships"], r["identities"]) for r in mine}
    assert [sum(column) for column in zip(*by_place.values(), strict=True)] == [1, 1, 1]
    assert stack.command("verify").stdout.splitlines()[-1] == "drift 0"


def check_nothing_is_left(stack: Stack, mail: str, mpid: str) -> None:
    with redis_of(stack) as client:
        held = everything_in(client)
    assert not [key for key, value in held.items() if mpid.encode() in key + value]
    with_name = [key for key, value in held.items() if pack_mpid(mpid).encode() in key + value]
    assert [key.split(b":")[1] for key in with_name] == [b"x"]
    places = [stack.log.read_bytes(), *records_of(stack, DEAD_LETTERS), *records_of(stack, ERASURES)]
    places += [key + value for key, value in held.items()]
    for form in ("raw", "md5", "sha1", "sha256"):
        assert encoded(mail, form).lower().encode() not in b"\n".join(places).lower()
    assert mpid.encode() not in b"\n".join(places[:1] + records_of(stack, DEAD_LETTERS) + records_of(stack, ERASURES))
