"""Kafka messages to operations of the apply script, and poison to dead letters."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from confluent_kafka import Message

from audience_core.codec import Codec
from audience_core.domain.records import DeadLetter
from audience_core.errors import PoisonLimitExceeded, PoisonRecord
from audience_core.kafka.producer import Outgoing
from audience_core.observability import metrics
from audience_core.redis.shard_store import (
    Operation,
    change_operation,
    erase_identities_operation,
    erase_visitor_operation,
)
from audience_core.topics import CHANGES, DEAD_LETTERS

_OPERATIONS: dict[str, Callable[[Any, int], Operation]] = {
    "MembershipChange": lambda record, _: change_operation(record),
    "VisitorErased": erase_visitor_operation,
    "IdentitiesErased": erase_identities_operation,
}
_LEAST_SEEN = 100  # a share of fewer records says nothing


def decode(codec: Codec, value: bytes | None, offset: int) -> tuple[Operation, int]:
    """(operation, received_at in ms) of one record's bytes at an offset. Raises PoisonRecord."""
    name, record = codec.decode(value)
    operation = _OPERATIONS.get(name)
    if operation is None:
        raise PoisonRecord("wrong_schema", f"{name} does not belong into {CHANGES}")
    return operation(record, offset), record["received_at"]


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

    def add(self, *, poison: bool) -> None:
        """Count one record. Raises PoisonLimitExceeded."""
        self._seen.append(poison)
        if not poison or len(self._seen) < min(_LEAST_SEEN, self._seen.maxlen or _LEAST_SEEN):
            return
        share = sum(self._seen) / len(self._seen)
        if share > self._ratio:
            raise PoisonLimitExceeded(
                f"{share:.0%} of the last {len(self._seen)} records can't be read (limit {self._ratio:.0%}); look at "
                "`audience-stream dlq list`, mend the sender or raise AUDIENCE_POISON_RATIO, then start again"
            )
