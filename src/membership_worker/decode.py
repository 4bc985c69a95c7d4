"""Kafka messages to operations of the apply script, and poison to dead letters."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from confluent_kafka import Message

from audience_core.codec import Codec
from audience_core.domain.records import DeadLetter
from audience_core.errors import PoisonLimitExceeded, PoisonRecord
from audience_core.kafka.producer import Outgoing
from audience_core.observability import metrics
from audience_core.redis.operations import Operations
from audience_core.topics import CHANGES, DEAD_LETTERS

_LEAST_SEEN = 100  # a share of fewer records says nothing


@dataclass
class Batch:
    """What came of the messages of one shard."""

    operations: Operations = field(default_factory=Operations)
    letters: list[Outgoing] = field(default_factory=list)
    oldest: int = 0
    """received_at of the first record, ms; 0 when none can be read"""


def decode(codec: Codec, messages: Sequence[Message]) -> Batch:
    """Read one shard's messages. Raises RetryableError when a schema registry is configured and away."""
    batch = Batch()
    for message, decoded in zip(messages, codec.decode_all([_value(message) for message in messages]), strict=True):
        if isinstance(decoded, PoisonRecord):
            batch.letters.append(dead_letter(codec, message, decoded))
            continue
        name, record = decoded
        if name == "MembershipChange":
            batch.operations.change(record)
        elif name == "VisitorErased":
            batch.operations.visitor_erased(record, message.offset() or 0)
        elif name == "IdentitiesErased":
            batch.operations.identities_erased(record, message.offset() or 0)
        else:
            poison = PoisonRecord("wrong_schema", f"{name} does not belong into {CHANGES}")
            batch.letters.append(dead_letter(codec, message, poison))
            continue
        if not batch.oldest:
            batch.oldest = record.received_at if name == "MembershipChange" else record["received_at"]
    return batch


def dead_letter(codec: Codec, message: Message, error: PoisonRecord) -> Outgoing:
    """Dead letter of a record, in the partition of its source, with the record's own bytes."""
    metrics.DEAD_LETTERS.labels(error.reason).inc()
    letter = DeadLetter(
        account=None,
        reason=error.reason,
        detail=error.detail,
        kind="RECORD",
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        request_id=None,
        occurred_at=None,
        failed_at=time.time_ns() // 1_000_000,
        payload=_value(message) or b"",
    )
    key = message.key()
    return Outgoing(
        DEAD_LETTERS,
        message.partition() or 0,
        key if isinstance(key, bytes) else b"",
        codec.encode("DeadLetter", letter),
    )


def _value(message: Message) -> bytes | None:
    value = message.value()
    return value if isinstance(value, bytes) else None


class PoisonLimit:
    """Stops the worker when too large a share of the last records was poison."""

    def __init__(self, ratio: float, window: int) -> None:
        self._ratio = ratio
        self._seen: deque[bool] = deque(maxlen=window)

    def add(self, poison: int, records: int) -> None:
        """Count a batch: how many of its records were poison. Raises PoisonLimitExceeded."""
        self._seen.extend([True] * poison + [False] * (records - poison))
        if not poison or len(self._seen) < min(_LEAST_SEEN, self._seen.maxlen or _LEAST_SEEN):
            return
        share = sum(self._seen) / len(self._seen)
        if share > self._ratio:
            raise PoisonLimitExceeded(
                f"{share:.0%} of the last {len(self._seen)} records can't be read (limit {self._ratio:.0%}); look at "
                "`audience-stream dlq list`, mend the sender or raise AUDIENCE_POISON_RATIO, then start again"
            )
