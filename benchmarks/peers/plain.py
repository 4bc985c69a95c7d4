"""confluent-kafka and redis-py in a loop, as their documentation shows: consume a batch, decode, one pipeline of SADD
and SREM, commit. At least once; no order, no fence, no counts."""

import os
import sys
import time
from typing import Any

import redis
from confluent_kafka import Consumer

from audience_core.topics import CHANGES
from benchmarks.peers.work import BATCH, SESSION_TIMEOUT_MS, Meter, add_to, decode


def main(count: int) -> None:
    """Apply `count` records."""
    consumer: Any = Consumer(
        {
            "bootstrap.servers": os.environ["AUDIENCE_KAFKA_BOOTSTRAP_SERVERS"],
            "group.id": f"plain-{time.monotonic_ns()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": SESSION_TIMEOUT_MS,
        }
    )
    consumer.subscribe([CHANGES])
    client, meter, done = redis.Redis.from_url(os.environ["AUDIENCE_REDIS_URL"]), Meter(count), False
    while not done:
        messages = consumer.consume(BATCH, timeout=0.1)
        if not messages:
            continue
        meter.begin()
        pipe = client.pipeline(transaction=False)
        for message in messages:
            add_to(pipe, decode(message.value()))
        pipe.execute()
        consumer.commit(asynchronous=True)
        done = meter.did(len(messages))
    consumer.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
