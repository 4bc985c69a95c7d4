"""Waiting for Kafka's acknowledgement."""

import asyncio
import gc
from collections.abc import Sequence
from typing import Any, cast

import pytest

from audience_core.errors import KafkaUnavailable
from audience_core.kafka.producer import Outgoing, RecordProducer, Settled
from ingest_gateway.publisher import KafkaPublisher


class SilentProducer:
    """Keeps what it is to call, and calls nothing."""

    def __init__(self) -> None:
        self.settled: list[Settled] = []

    def send(self, _records: Sequence[Outgoing], settled: Settled) -> None:
        self.settled.append(settled)


def test_requests_that_kafka_does_not_acknowledge_leave_nothing_to_the_collector() -> None:
    """It looks rarely in a service: what an outage left to it would look like a leak."""

    async def scene() -> int:
        producer: Any = SilentProducer()
        publisher = KafkaPublisher(cast(RecordProducer, producer), 0.01)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                with pytest.raises(KafkaUnavailable):
                    await publisher.publish([Outgoing("t", 0, b"k", b"v")])
            for settled in producer.settled:
                settled(None)  # late
            await asyncio.sleep(0)
            producer.settled.clear()
            return gc.collect()
        finally:
            gc.enable()

    assert asyncio.run(scene()) < 20
