"""sentry-arroyo, as its documentation advises: a stream processor over BatchStep, RunTask and, as the last step,
CommitOffsets, which commits once a second."""

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import redis
from arroyo import Topic
from arroyo.backends.kafka import KafkaConsumer, KafkaPayload
from arroyo.backends.kafka.configuration import build_kafka_consumer_configuration
from arroyo.commit import ONCE_PER_SECOND
from arroyo.processing import StreamProcessor
from arroyo.processing.strategies import CommitOffsets, ProcessingStrategy, ProcessingStrategyFactory, RunTask
from arroyo.processing.strategies.batching import BatchStep, ValuesBatch
from arroyo.types import Commit, Message, Partition

from audience_core.topics import CHANGES
from benchmarks.peers.work import BATCH, SESSION_TIMEOUT_MS, Meter, add_to, decode

_BATCH_TIME_S = 1.0


class Chain(ProcessingStrategyFactory[KafkaPayload]):
    """Batch, write, commit."""

    def __init__(self, meter: Meter) -> None:
        self._client, self._meter = redis.Redis.from_url(os.environ["AUDIENCE_REDIS_URL"]), meter
        self.done: Any = None
        """called once everything is applied"""

    def create_with_partitions(
        self, commit: Commit, partitions: Mapping[Partition, int]
    ) -> ProcessingStrategy[KafkaPayload]:
        del partitions
        return RunTask(self._read, BatchStep(BATCH, _BATCH_TIME_S, RunTask(self._write, CommitOffsets(commit))))

    def _read(self, message: Message[KafkaPayload]) -> Any:
        self._meter.begin()
        return decode(message.payload.value)

    def _write(self, message: Message[ValuesBatch[Any]]) -> int:
        pipe = self._client.pipeline(transaction=False)
        for value in message.payload:
            add_to(pipe, value.payload)
        pipe.execute()
        if self._meter.did(len(message.payload)):
            self.done()
        return len(message.payload)


def main(count: int) -> None:
    """Apply `count` records."""
    configuration = build_kafka_consumer_configuration(
        default_config={},
        bootstrap_servers=[os.environ["AUDIENCE_KAFKA_BOOTSTRAP_SERVERS"]],
        auto_offset_reset="earliest",
        group_id=f"arroyo-{time.monotonic_ns()}",
        override_params={"session.timeout.ms": SESSION_TIMEOUT_MS},
    )
    chain = Chain(Meter(count))
    processor = StreamProcessor(KafkaConsumer(configuration), Topic(CHANGES), chain, ONCE_PER_SECOND)
    chain.done = processor.signal_shutdown
    processor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
