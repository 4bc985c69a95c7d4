"""FastStream on confluent-kafka, as its documentation advises for at least once: a batch subscriber in a group whose
messages are acknowledged after the handler and read again after an error; Avro read by a decoder of its own; redis-py's
asyncio client. Types are not applied, the documented way to do without pydantic."""

import asyncio
import os
import sys
import time
from typing import Any

import redis.asyncio
from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker

from audience_core.topics import CHANGES
from benchmarks.peers.work import BATCH, SESSION_TIMEOUT_MS, Meter, add_to, decode


def main(count: int) -> None:
    """Apply `count` records."""
    broker = KafkaBroker(os.environ["AUDIENCE_KAFKA_BOOTSTRAP_SERVERS"], apply_types=False, logger=None)
    app = FastStream(broker, logger=None)
    client, meter = redis.asyncio.Redis.from_url(os.environ["AUDIENCE_REDIS_URL"]), Meter(count)

    async def decode_batch(message: Any) -> list[Any]:
        meter.begin()
        return [decode(body) for body in message.body]

    @broker.subscriber(
        CHANGES,
        group_id=f"faststream-{time.monotonic_ns()}",
        batch=True,
        max_records=BATCH,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
        session_timeout_ms=SESSION_TIMEOUT_MS,
        decoder=decode_batch,
    )
    async def apply(records: list[Any]) -> None:
        pipe = client.pipeline(transaction=False)
        for record in records:
            add_to(pipe, record)
        await pipe.execute()
        if meter.did(len(records)):
            app.exit()

    asyncio.run(app.run())


if __name__ == "__main__":
    main(int(sys.argv[1]))
