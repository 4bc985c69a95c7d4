"""How far shards are behind, measured from outside: no group is joined, nothing is committed.

Each shard's log is asked for its record at the offset that Redis holds. When there is one, its time says how old the
oldest unapplied change is; when there is none, all are applied.
"""

import time
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from audience_core.kafka.client import options
from audience_core.kafka.consumer import known_end
from audience_core.settings import CoreSettings
from audience_core.topics import CHANGES

_ANSWER_S = 3.0
_POLL_S = 0.2


class Behind(NamedTuple):
    """What a shard's log holds from its stored offset on."""

    records: int
    oldest_ms: int
    """time of the first of them; 0 when there is none"""
    end: int
    """offset after the last"""

    def seconds(self, now: float) -> float:
        """Age of the oldest. 0 also for one that came after `now`, seconds since 1970, when the offset was read."""
        return max(0.0, now - self.oldest_ms / 1000) if self.records else 0.0


def make_lag_consumer(settings: CoreSettings, name: str, *, again_at_once: bool = False) -> Consumer:
    """Make a consumer that is moved from one place of the changes topic to another, and fetches little at each.

    `again_at_once`: its next measurement need not wait a second for the last one's queue. It asks the broker fifty
    times a second meanwhile, which others feel, so it is for somebody who waits for the answer.
    """
    hurry = {"fetch.queue.backoff.ms": 20} if again_at_once else {}
    return Consumer(
        {
            **hurry,
            "group.id": f"audience-{name}",  # the client asks for a name; the group is never joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,
            "max.partition.fetch.bytes": 16_384,  # one record is enough
            "queued.min.messages": 1,
            **options(settings, name),
        }
    )


def measure(consumer: Consumer, stored: dict[int, int | None]) -> dict[int, Behind]:
    """Shard → how far it is behind. A shard whose log does not answer within seconds is left out."""
    found: dict[int, Behind] = {}
    consumer.assign(
        [TopicPartition(CHANGES, n, OFFSET_BEGINNING if offset is None else offset) for n, offset in stored.items()]
    )
    until = time.monotonic() + _ANSWER_S
    while len(found) < len(stored) and time.monotonic() < until:
        for message in consumer.consume(len(stored), timeout=_POLL_S):
            error, shard, offset = message.error(), message.partition(), message.offset()
            if shard is None or offset is None or shard in found:
                continue
            if error is None:
                end = known_end(consumer, CHANGES, shard) or 0
                found[shard] = Behind(max(1, end - offset), message.timestamp()[1], max(end, offset + 1))
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
                found[shard] = Behind(0, 0, offset)
    consumer.unassign()
    return found
