"""Absolute counts on their way to Kafka. Only the latest of an audience matters, so those of a while go together."""

from collections import defaultdict

from audience_core.codec import Codec
from audience_core.domain.partitioning import audience_key, count_key, shard_of
from audience_core.domain.records import ShardCount
from audience_core.kafka.producer import Outgoing
from audience_core.redis.shard_store import Counts
from audience_core.topics import COUNTS

EVERY_S = 0.2
"""How long counts are collected while there is no pause in the work."""


class PendingCounts:
    """Counts that were not published yet, by shard."""

    def __init__(self, codec: Codec, shards: int) -> None:
        self._codec = codec
        self._shards = shards
        self._counts: dict[int, Counts] = defaultdict(dict)
        self._offsets: dict[int, int] = {}
        self._headers: dict[int, bytes] = {}

    def add(self, shard: int, counts: Counts, offset: int, header: bytes | None = None) -> None:
        """Note the counts of a batch. Those of earlier ones still hold at its offset: it has not touched them.

        `header` names the trace that the records are to continue.
        """
        if counts:
            self._counts[shard].update(counts)
            self._offsets[shard] = offset
            if header is not None:
                self._headers[shard] = header

    def replace(self, shard: int, counts: Counts, offset: int) -> None:
        """Note all counts of a shard, whatever was noted before."""
        self._counts.pop(shard, None)
        self.add(shard, counts, offset)

    def take(self) -> list[Outgoing]:
        """All of them as records; none is left."""
        records = [
            self._record(shard, audience, count, self._offsets[shard])
            for shard, counts in self._counts.items()
            for audience, count in counts.items()
        ]
        self._counts.clear()
        self._headers.clear()
        return records

    def _record(self, shard: int, audience: tuple[str, int, int], count: int, offset: int) -> Outgoing:
        account, audience_id, epoch = audience
        record = ShardCount(
            account=account, audience_id=audience_id, epoch=epoch, shard=shard, count=count, offset=offset
        )
        return Outgoing(
            COUNTS,
            shard_of(audience_key(account, audience_id), self._shards),
            count_key(account, audience_id, epoch, shard),
            self._codec.encode("ShardCount", record),
            self._headers.get(shard),
        )
