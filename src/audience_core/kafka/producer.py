"""One producer a process, with a thread that serves its acknowledgements."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from audience_core.errors import KafkaUnavailable, ProducerQueueFull
from audience_core.kafka.client import options
from audience_core.observability import metrics
from audience_core.observability.tracing import HEADER
from audience_core.settings import CoreSettings


class Outgoing(NamedTuple):
    """A record on its way to Kafka."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    traceparent: bytes | None = None
    """header of a traced record (observability/tracing.py)"""


Settled = Callable[[KafkaError | None], None]
"""Called once a batch is settled, in the producer's thread: with None when every record is acknowledged by all
in-sync replicas, else with one of the errors."""


class _Batch:
    """Counts a batch's acknowledgements. Only one thread at a time serves them, so it needs no lock."""

    __slots__ = ("_error", "_left", "_settled")

    def __init__(self, size: int, settled: Settled) -> None:
        self._left = size
        self._error: KafkaError | None = None
        self._settled = settled

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            metrics.KAFKA_FAILED.labels(message.topic() or "").inc()
            self._error = error
        self._left -= 1
        if self._left == 0:
            self._settled(self._error)


class RecordProducer:
    """Sends records; `acks=all` and idempotent, so librdkafka's own retries neither lose, repeat nor reorder."""

    def __init__(self, settings: CoreSettings, client: str, *, linger_ms: int = 1) -> None:
        self._producer = Producer(
            {
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": linger_ms,
                # short: after the gateway's 503 the sender repeats the request, so old records need not be kept
                "message.timeout.ms": 10_000,
                **options(settings, client),
            },
            logger=logging.getLogger("rdkafka"),  # else librdkafka writes to standard error by itself
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="kafka-acknowledgements", daemon=True)
        self._thread.start()

    def send(self, records: Sequence[Outgoing], settled: Settled) -> None:
        """Queue records. Raises ProducerQueueFull when there is no room; those already queued may still go."""
        delivered = _Batch(len(records), settled).delivered
        for record in records:
            try:
                self._producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    partition=record.partition,
                    on_delivery=delivered,
                    headers=None if record.traceparent is None else [(HEADER, record.traceparent)],
                )
            except BufferError as error:
                raise ProducerQueueFull("the producer's queue is full; Kafka is slower than the requests") from error
            except KafkaException as error:
                metrics.KAFKA_FAILED.labels(record.topic).inc()
                raise KafkaUnavailable(f"Kafka refused a record for {record.topic}: {error.args[0].name()}") from error

    def send_and_wait(self, records: Sequence[Outgoing], timeout: float) -> None:
        """Queue records and wait for their acknowledgement. Raises KafkaUnavailable after `timeout` seconds."""
        if not records:
            return
        outcome: list[Any] = []
        done = threading.Event()

        def settled(error: KafkaError | None) -> None:
            outcome.append(error)
            done.set()

        self.send(records, settled)
        if not done.wait(timeout):
            raise KafkaUnavailable(f"no acknowledgement within {timeout:g} s")
        if outcome[0] is not None:
            raise KafkaUnavailable(f"a record was not acknowledged: {outcome[0].name()}")

    def reachable(self, timeout: float = 1.0) -> bool:
        """Whether a broker answers."""
        try:
            self._producer.list_topics(timeout=timeout)
        except KafkaException:
            return False
        return True

    def close(self, timeout: float = 5.0) -> int:
        """Wait for what is queued; return how many records were left."""
        self._stopping.set()
        self._thread.join(2.0)  # `flush` serves acknowledgements too, and must be alone
        return int(self._producer.flush(timeout))

    def _serve(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(0.1)
