"""The changes topic, read back: what the state has to be a function of."""

from typing import cast

from confluent_kafka import Consumer, TopicPartition

from audience_core.codec import Codec
from audience_core.domain.records import IdentitiesErased, MembershipChange, VisitorErased
from audience_core.domain.shard_state import ShardState
from audience_core.errors import PoisonRecord
from audience_core.settings import CoreSettings
from audience_core.topics import CHANGES

Record = MembershipChange | VisitorErased | IdentitiesErased


class ChangesLog:
    """Every record of the changes topic by shard and offset, also those that the broker has deleted since."""

    def __init__(self, address: str, shards: int) -> None:
        self._codec = Codec()
        options = {"group.id": "the-tests", "enable.auto.commit": False, "fetch.wait.max.ms": 20, "log_level": 0}
        self._consumer = Consumer({"bootstrap.servers": address, **options})
        self._consumer.assign([TopicPartition(CHANGES, shard, 0) for shard in range(shards)])
        self.records: dict[int, dict[int, Record | None]] = {shard: {} for shard in range(shards)}
        """shard → offset → record; None is one that can't be read"""
        self.former: dict[int, list[Record | None]] = {shard: [] for shard in range(shards)}
        """what the state was made of before the topic was made anew"""
        self.request_ids: set[str] = set()
        """of every request that has had a record in the log"""
        self.ends = dict.fromkeys(range(shards), 0)

    def read(self) -> None:
        """Read on to the end that the broker tells now."""
        for shard in self.ends:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(CHANGES, shard), timeout=20)
            self.ends[shard] = end
        while any(max(self.records[shard], default=-1) + 1 < end for shard, end in self.ends.items()):
            for message in self._consumer.consume(1000, timeout=0.2):
                if message.error() is None:
                    record = self._decode(message.value())
                    self.records[message.partition() or 0][message.offset() or 0] = record
                    if record is not None:
                        self.request_ids.add(record["request_id"])

    def state_at(self, settings: CoreSettings, offsets: dict[int, int]) -> dict[int, ShardState]:
        """State of each shard after all records before its offset."""
        return {shard: self._fold(settings, shard, offset) for shard, offset in offsets.items()}

    def length(self, partition: TopicPartition) -> int:
        """How many records a partition of any topic holds."""
        low, high = self._consumer.get_watermark_offsets(partition, timeout=20)
        return high - low

    def forget(self, first: dict[int, int], following: dict[int, int]) -> None:
        """Leave out what retention has deleted before anybody applied it."""
        for shard, end in following.items():
            for offset in range(first[shard], end):
                self.records[shard][offset] = None

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _fold(self, settings: CoreSettings, shard: int, end: int) -> ShardState:
        state = ShardState(settings.window_ms, settings.suppression_ms)
        own = [record for offset, record in sorted(self.records[shard].items()) if offset < end]
        for record in [*self.former[shard], *own]:
            if record is None:
                continue
            if "changes" in record:
                state.change(cast(MembershipChange, record))
            elif "mpid" in record:
                state.erase_visitor(cast(VisitorErased, record))
            else:
                state.erase_identities(record)
        return state

    def _decode(self, value: object) -> Record | None:
        try:
            return cast(Record, self._codec.decode(value if isinstance(value, bytes) else None)[1])
        except PoisonRecord:
            return None
