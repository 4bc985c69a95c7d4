"""Quix Streams, as its documentation advises: an application at least once, whose batching sink writes at each
checkpoint, after which the offsets are committed; a checkpoint a second, which is faster than one every thousand
records."""

import os
import sys
import tempfile
import time
from typing import Any

import redis
from quixstreams import Application
from quixstreams.sinks.base import BatchingSink

from audience_core.topics import CHANGES
from benchmarks.peers.work import SESSION_TIMEOUT_MS, Meter, add_to, decode

_CHECKPOINT_S = 1.0


class RedisSets(BatchingSink):
    """Writes the records of a checkpoint, a partition at a time."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._client = redis.Redis.from_url(os.environ["AUDIENCE_REDIS_URL"])
        self._meter = meter

    def write(self, batch: Any) -> None:
        pipe = self._client.pipeline(transaction=False)
        for item in batch:
            add_to(pipe, item.value)
        pipe.execute()
        self._meter.did(batch.size)


def main(count: int) -> None:
    """Apply `count` records."""
    meter = Meter(count)

    def read(value: bytes) -> Any:
        meter.begin()
        return decode(value)

    with tempfile.TemporaryDirectory() as state:
        app = Application(
            broker_address=os.environ["AUDIENCE_KAFKA_BOOTSTRAP_SERVERS"],
            consumer_group=f"quixstreams-{time.monotonic_ns()}",
            auto_offset_reset="earliest",
            commit_interval=_CHECKPOINT_S,
            consumer_extra_config={"session.timeout.ms": SESSION_TIMEOUT_MS},
            auto_create_topics=False,
            state_dir=state,
            loglevel="WARNING",
        )
        records = app.dataframe(app.topic(CHANGES, value_deserializer="bytes", key_deserializer="bytes"))
        records.apply(read).sink(RedisSets(meter))
        app.run(count=count, collect=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
