"""confluent-kafka and redis-py in a loop, as their documentation shows: consume a batch, decode, one pipeline of SADD
and SREM, commit. At least once; no order, no fence, no counts."""

import os
import sys
import time
from typing import Any

import redis
from confluent_kafka import Consumer

from audience_core.codec import Codec
from audience_core.topics import CHANGES


def main(count: int) -> tuple[float, float]:
    """Apply `count` records; returns how many a second, and a second of this process."""
    consumer: Any = Consumer(
        {
            "bootstrap.servers": os.environ["AUDIENCE_KAFKA_BOOTSTRAP_SERVERS"],
            "group.id": f"plain-{time.monotonic_ns()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
        }
    )
    consumer.subscribe([CHANGES])
    client, codec = redis.Redis.from_url(os.environ["AUDIENCE_REDIS_URL"]), Codec()
    done, started, busy = 0, 0.0, 0.0
    while done < count:
        messages = consumer.consume(1000, timeout=0.1)
        if not messages:
            continue
        if not started:
            started, busy = time.perf_counter(), time.process_time()
        pipe = client.pipeline(transaction=False)
        for message in messages:
            record = codec.decode(message.value())[1]
            key = f"m:{record['account']}:{record['mpid']}"
            for change in record["changes"]:
                (pipe.sadd if change["action"] == "ENTER" else pipe.srem)(key, change["audience_id"])
        pipe.execute()
        consumer.commit(asynchronous=True)
        done += len(messages)
    rates = done / (time.perf_counter() - started), done / (time.process_time() - busy)
    consumer.close()
    return rates


if __name__ == "__main__":
    sys.stdout.write("{} {}\n".format(*main(int(sys.argv[1]))))
