"""Publishes a request's records and waits, within a bound, for all in-sync replicas."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from confluent_kafka import KafkaError

from audience_core.errors import KafkaUnavailable
from audience_core.kafka.producer import Outgoing, RecordProducer
from audience_core.observability import metrics
from audience_core.observability.tracing import Tracing
from ingest_gateway.bounds import Bound

_Outcome = tuple["asyncio.Future[None]", KafkaError | None]


class Publisher(Protocol):
    """Makes records durable."""

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Return when every record is durable. Raises RetryableError when none can vouch for it in time."""
        ...


class TracedPublisher:
    """Publishes under a span of its own; each record carries its context."""

    def __init__(self, publisher: Publisher, tracing: Tracing) -> None:
        self._publisher = publisher
        self._tracing = tracing

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """As the publisher within."""
        if not records:
            return
        with self._tracing.sending(records[0].topic) as header:
            self._tracing.note({"messaging.batch.message_count": len(records)})
            traced = records if header is None else [record._replace(traceparent=header) for record in records]
            await self._publisher.publish(traced)


class KafkaPublisher:
    """Bridges the producer's thread and the event loop: many acknowledgements wake the loop once."""

    def __init__(self, producer: RecordProducer, ack_timeout: float) -> None:
        self._producer = producer
        self._bound: Bound[asyncio.Future[None]] = Bound(ack_timeout, _give_up)
        self._loop = asyncio.get_running_loop()
        self._settled: deque[_Outcome] = deque()

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Return when every record is durable. Raises KafkaUnavailable after the bound, ProducerQueueFull at once."""
        if not records:
            return
        started = time.perf_counter()
        done: asyncio.Future[None] = self._loop.create_future()
        self._bound.begin(done)
        try:
            self._producer.send(records, partial(self._settle, done))
            await done
        finally:
            self._bound.end(done)
            del done  # its error holds this frame, and only the collector would part the two
            metrics.GATEWAY_ACK.observe(time.perf_counter() - started)

    async def deliver(self, records: Sequence[Outgoing]) -> None:
        """As publish, but wait until librdkafka has delivered every record or given one up (`message.timeout.ms`)."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._producer.send(records, lambda error: self._settle(done, error))
        await done

    def _settle(self, done: "asyncio.Future[None]", error: KafkaError | None) -> None:
        # append before looking: if this is the only entry, no wake-up is under way that would still find it
        self._settled.append((done, error))
        if len(self._settled) == 1:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        while self._settled:
            done, error = self._settled.popleft()
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(KafkaUnavailable(f"Kafka did not take a record: {error.name()}"))


def _give_up(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_exception(KafkaUnavailable("Kafka did not acknowledge in time"))
