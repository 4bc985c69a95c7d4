"""Dead letters: what they hold, that they harm nobody, and that they can be put back."""

import json
import time

from confluent_kafka import Producer

from audience_core.codec import Codec
from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.domain.records import DeadLetter
from audience_core.topics import CHANGES, DEAD_LETTERS
from tests.pipeline.running import Stack, eventually


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
        letter = DeadLetter(
            account="demo",
            reason="occurred_in_future",
            detail="timestamp_ms: over a day ahead",
            kind="PROFILE",
            topic=None,
            partition=None,
            offset=None,
            request_id="r",
            occurred_at=now - 1000,
            failed_at=now,
            payload=json.dumps({"mpid": mpid, "audiences": [item]}).encode(),
        )
        produce(stack, DEAD_LETTERS, 0, Codec().encode("DeadLetter", letter))
    answer = stack.command("dlq", "replay", "--reason", "occurred_in_future", "--json")
    assert json.loads(answer.stdout)["replayed"] >= 2, answer.stderr
    eventually(lambda: stack.segments("d-2"), 2, {"5002": "member"})
    # its exit is newer than the replayed enter
    assert stack.segments("d-3") == {"5002": "left"}
