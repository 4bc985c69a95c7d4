"""The changes that worker, rebuild and memory are measured with: profiles of two audiences each."""

import random
import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Producer

from audience_core.codec import Codec
from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.domain.records import AudienceChange, MembershipAction, MembershipChange
from audience_core.topics import CHANGES

ACCOUNT = "demo"
AUDIENCES = 100
PER_PROFILE = 2


def profiles(count: int, seed: int = 1) -> Iterator[MembershipChange]:
    """Records of `count` profiles. A visitor comes three times on average; one profile in five leaves."""
    chance = random.Random(seed)  # noqa: S311 - seeded on purpose
    visitors, start = max(1, count // 3), time.time_ns() // 1_000_000 - count
    for number in range(count):
        action: MembershipAction = "ENTER" if chance.random() < 0.8 else "EXIT"  # noqa: PLR2004 - one in five leaves
        audiences = chance.sample(range(AUDIENCES), PER_PROFILE)
        yield MembershipChange(
            account=ACCOUNT,
            mpid=str(5_000_000_000_000_000_000 + chance.randrange(visitors)),
            occurred_at=start + number,
            received_at=start + number,
            request_id=f"00000000-0000-4000-8000-{number:012}",
            identities=[],
            changes=[AudienceChange(audience_id=audience, epoch=0, action=action) for audience in audiences],
        )


def publish(bootstrap: str, count: int, shards: int, topic: str = CHANGES) -> list[int]:
    """Publish the records; returns how many each partition got."""
    producer: Any = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "batch.num.messages": 10000})
    codec, written = Codec(), [0] * shards
    for record in profiles(count):
        key = visitor_key(record["account"], record["mpid"])
        shard = shard_of(key, shards)
        while True:
            try:
                producer.produce(topic, codec.encode("MembershipChange", record), key, partition=shard)
                break
            except BufferError:
                producer.poll(0.1)
        written[shard] += 1
        producer.poll(0)
    producer.flush()
    return written
