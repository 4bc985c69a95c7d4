"""Dead letters: what they hold, that they harm nobody, and that they can be put back."""

import json
import time
from typing import Any

from confluent_kafka import Producer

from audience_core.codec import Codec
from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.domain.records import AudienceChange, DeadLetter, DeadLetterKind, MembershipChange
from audience_core.topics import CHANGES, DEAD_LETTERS
from tests.pipeline.running import Stack, eventually


def letter(kind: DeadLetterKind, reason: str, payload: bytes, failed_at: int, **fields: Any) -> bytes:
    record = DeadLetter(
        account="demo",
        reason=reason,
        detail="made by a test",
        kind=kind,
        topic=fields.get("topic"),
        partition=fields.get("partition"),
        offset=None,
        request_id="r",
        occurred_at=fields.get("occurred_at"),
        failed_at=failed_at,
        payload=payload,
    )
    return Codec().encode("DeadLetter", record)


def produce(stack: Stack, topic: str, partition: int, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": stack.ready["kafka_bootstrap"]})
    producer.produce(topic, value, b"", partition=partition)
    assert producer.flush(10) == 0


def letters(stack: Stack, reason: str) -> int:
    listed = json.loads(stack.command("dlq", "list", "--json", "--limit", "10000").stdout)
    return sum(letter["reason"] == reason for letter in listed)


def test_an_undecodable_record_is_dead_lettered_and_the_next_ones_are_applied(stack: Stack) -> None:
    assert stack.subscribe(5001).status_code == 200
    shard = shard_of(visitor_key("demo", "d-1"), int(stack.ready["environment"]["AUDIENCE_SHARDS"]))
    produce(stack, CHANGES, shard, b"not a record")
    assert stack.change("d-1", 5001, "add").status_code == 200
    eventually(lambda: stack.segments("d-1"), 2, {"5001": "member"})
    assert letters(stack, "unknown_schema") == 1


def test_a_mended_dead_letter_is_replayed_with_its_own_time(stack: Stack) -> None:
    assert stack.subscribe(5002).status_code == 200
    now = time.time_ns() // 1_000_000
    assert stack.change("d-3", 5002, "delete", timestamp_ms=now).status_code == 200
    for mpid in ("d-2", "d-3"):
        item = {"audience_id": 5002, "action": "add"}
        payload = json.dumps({"mpid": mpid, "audiences": [item]}).encode()
        produce(stack, DEAD_LETTERS, 0, letter("PROFILE", "occurred_in_future", payload, now, occurred_at=now - 1000))
    answer = stack.command("dlq", "replay", "--reason", "occurred_in_future", "--json")
    assert json.loads(answer.stdout)["replayed"] >= 2, answer.stderr
    eventually(lambda: stack.segments("d-2"), 2, {"5002": "member"})
    # its exit is newer than the replayed enter
    assert stack.segments("d-3") == {"5002": "left"}


def test_a_replayed_record_is_decided_by_its_own_time_however_often_it_is_replayed(stack: Stack) -> None:
    assert stack.subscribe(5003).status_code == 200
    now = time.time_ns() // 1_000_000
    shards = int(stack.ready["environment"]["AUDIENCE_SHARDS"])
    assert stack.change("d-4", 5003, "delete", timestamp_ms=now).status_code == 200
    for mpid in ("d-4", "d-5"):
        record = MembershipChange(
            account="demo",
            mpid=mpid,
            occurred_at=now - 1000,
            received_at=now,
            request_id="r",
            identities=[],
            changes=[AudienceChange(audience_id=5003, epoch=0, action="ENTER")],
        )
        shard = shard_of(visitor_key("demo", mpid), shards)
        payload = Codec().encode("MembershipChange", record)
        produce(
            stack, DEAD_LETTERS, shard, letter("RECORD", "no_registry", payload, now, topic=CHANGES, partition=shard)
        )
    for _ in range(2):
        answer = stack.command("dlq", "replay", "--reason", "no_registry", "--json")
        assert json.loads(answer.stdout) == {"replayed": 2, "still_refused": 0}, answer.stderr
        eventually(lambda: stack.segments("d-5"), 2, {"5003": "member"})
        assert stack.segments("d-4") == {"5003": "left"}
    assert stack.change("d-5", 5003, "delete", timestamp_ms=now - 500).status_code == 200
    eventually(lambda: stack.segments("d-5"), 2, {"5003": "left"})


def test_the_list_shows_the_latest_letters_up_to_its_limit_oldest_first(stack: Stack) -> None:
    later = time.time_ns() // 1_000_000 + 3_600_000
    for number in (3, 1, 4, 2):
        produce(stack, DEAD_LETTERS, number, letter("MESSAGE", "of_the_list", b"{}", later + number))
    listed = json.loads(stack.command("dlq", "list", "--json", "--limit", "3").stdout)
    assert [entry["partition"] for entry in listed] == [2, 3, 4]
