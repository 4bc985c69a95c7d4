"""How far the whole system is behind its log: where each shard stands, at what pace, and until when."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer

from audience_core.domain.pace import Pace
from audience_core.errors import KafkaUnavailable
from audience_core.kafka.admin import TopicAdmin
from audience_core.kafka.lag import make_lag_consumer, measure
from audience_core.redis.connect import connect
from audience_core.redis.shard_store import ShardStore
from audience_core.settings import CoreSettings
from audience_core.topics import CHANGES

_PACE_OVER_S = 30.0
_ON_ITS_WAY_S = 1.0
"""a record that came less long ago is being worked on: a live system is never quite at the end"""


@dataclass(frozen=True)
class ShardBacklog:
    """Where a shard stands. `stored`: the next offset, None when Redis holds nothing; the log has `start` to `end`."""

    shard: int
    stored: int | None
    start: int
    end: int
    behind: int
    """records that are not applied"""
    seconds: float
    """age of the oldest of them; 0 when there is none"""

    @property
    def position(self) -> int:
        """Offset of the record that is applied next."""
        return self.end - self.behind


@dataclass(frozen=True)
class Backlog:
    """All shards at one moment, and their pace since the measurements before."""

    shards: list[ShardBacklog]
    records_per_second: float | None
    """None at the first measurement"""
    eta_seconds: float | None
    """None while it is unknown or nothing gets nearer"""

    @property
    def behind(self) -> int:
        """Records that are not applied."""
        return sum(shard.behind for shard in self.shards)

    @property
    def position(self) -> int:
        """Sum of the shards' positions: what it grows by was applied."""
        return sum(shard.position for shard in self.shards)

    @property
    def seconds(self) -> float:
        """Age of the oldest of them."""
        return max((shard.seconds for shard in self.shards), default=0.0)

    @property
    def applied_share(self) -> float:
        """Share of the log's records that are applied, 1 when it has none."""
        held = sum(shard.end - shard.start for shard in self.shards)
        return 1 - min(self.behind, held) / held if held else 1.0

    @property
    def state(self) -> str:
        """caught_up, empty (Redis holds nothing of any shard), standing_still or catching_up."""
        if self.seconds <= _ON_ITS_WAY_S:
            return "caught_up"
        if all(shard.stored is None for shard in self.shards):
            return "empty"
        return "standing_still" if self.records_per_second == 0 else "catching_up"

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "state": self.state,
            "behind": self.behind,
            "seconds": round(self.seconds, 1),
            "applied_share": round(self.applied_share, 4),
            "records_per_second": None if self.records_per_second is None else round(self.records_per_second, 4),
            "eta_seconds": None if self.eta_seconds is None else round(self.eta_seconds, 1),
            "shards": [{**shard.__dict__, "seconds": round(shard.seconds, 1)} for shard in self.shards],
        }


class Meter:
    """Measures again and again. Made by `open_meter`."""

    def __init__(self, settings: CoreSettings, store: ShardStore, admin: TopicAdmin, consumer: Consumer) -> None:
        self._numbers = list(range(settings.shards))
        self._store = store
        self._admin = admin
        self._consumer = consumer
        self._pace = Pace(_PACE_OVER_S)

    def measure(self) -> Backlog:
        """Look once. Raises KafkaUnavailable, RedisUnavailable."""
        starts = self._admin.starts(CHANGES, self._numbers)
        stored, now, clock = self._store.offsets(self._numbers), time.time(), time.monotonic()
        found = measure(self._consumer, stored)
        if silent := sorted(set(self._numbers) - (found.keys() & starts.keys())):
            raise KafkaUnavailable(f"Kafka does not tell how far the logs of the shards {silent} reach")
        shards = [
            ShardBacklog(
                shard=number,
                stored=stored[number],
                start=starts[number],
                end=found[number].end,
                behind=found[number].records,
                seconds=found[number].seconds(now),
            )
            for number in self._numbers
        ]
        self._pace.add(clock, sum(shard.position for shard in shards), sum(shard.behind for shard in shards))
        return Backlog(shards, self._pace.rate, self._pace.seconds_left)


@contextmanager
def open_meter(settings: CoreSettings) -> Iterator[Meter]:
    """A meter with connections of its own. Raises RedisUnavailable."""
    # librdkafka's own lines would bury the error that says what to do
    quiet = settings.model_copy(update={"kafka_options": {"log_level": 0, **settings.kafka_options}})
    with connect(settings) as client:
        consumer = make_lag_consumer(quiet, "status", again_at_once=True)
        try:
            yield Meter(settings, ShardStore(client, settings), TopicAdmin(quiet), consumer)
        finally:
            consumer.close()
