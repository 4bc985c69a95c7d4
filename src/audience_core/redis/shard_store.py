"""The state of a shard in Redis: sets, guards, counts and the offset, changed by one script."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from audience_core.domain.members import decode_member
from audience_core.domain.shard_state import guard_grain
from audience_core.errors import FencedError, ShardRefused
from audience_core.redis import keys, scripts
from audience_core.redis.connect import Redis, redis_faults
from audience_core.redis.erasures import ReceiptStore
from audience_core.redis.operations import Operations
from audience_core.settings import CoreSettings

Counts = dict[tuple[str, int, int], int]
"""(account, audience id, epoch) → number of MPIDs"""


@dataclass(frozen=True)
class Applied:
    """What a batch did. `counts` holds the new absolute count of each audience that it touched."""

    entered: int
    left: int
    unchanged: int
    stale: int
    suppressed: int
    erased: int
    counts: Counts
    receipts: int = 0
    """receipts of erasures that wait to be published, of this batch and of earlier ones"""

    @property
    def changes(self) -> int:
        """Membership changes that the batch held, whatever came of them."""
        return self.entered + self.left + self.unchanged + self.stale + self.suppressed


class Sending(NamedTuple):
    """A batch on its way to Redis."""

    shard: int
    topic_id: str
    expected: int | None
    call: scripts.Sent


@dataclass(frozen=True)
class StoredOffset:
    """Where a shard's state stands: the topic it was read from, and the next offset."""

    topic_id: str
    offset: int


class ShardStore:
    """Reads and changes shards. Every method raises RedisUnavailable when Redis is away."""

    def __init__(self, client: Redis, settings: CoreSettings) -> None:
        self._client: Any = client
        self.receipts = ReceiptStore(client)
        self._line = scripts.ScriptLine(client, "apply")
        window_s, suppression_s = settings.window_ms // 1000, settings.suppression_ms // 1000
        # Redis's expiry may only be later than the rule's: a worker that lags by up to a window decides the same.
        # The read side shows an exit for an hour, so a guard lives at least that long.
        grain = guard_grain(settings.window_ms)
        guard_ttl = max(2 * window_s + grain // 1000, 7200)
        self._limits = [settings.window_ms, settings.suppression_ms, grain, guard_ttl, max(2 * suppression_s, 1)]

    def locate(self, shard: int) -> StoredOffset | None:
        """Where the shard stands, or None when Redis holds nothing of it."""
        with redis_faults(f"reading the offset of shard {shard}"):
            topic_id, offset = self._client.hmget(keys.offset(shard), ["topic", "offset"])
        return None if offset is None else StoredOffset(topic_id, int(offset))

    def offsets(self, shards: list[int]) -> dict[int, int | None]:
        """Next offset of each of these shards, None where Redis holds nothing."""
        with redis_faults("reading the offsets of the shards"):
            pipe = self._client.pipeline(transaction=False)
            for shard in shards:
                pipe.hget(keys.offset(shard), "offset")
            replies = pipe.execute()
        return {shard: None if reply is None else int(reply) for shard, reply in zip(shards, replies, strict=True)}

    def apply(
        self, shard: int, topic_id: str, expected: int | None, next_offset: int, operations: Operations
    ) -> Applied:
        """Apply a batch and store `next_offset`, or change nothing.

        Raises FencedError when the stored offset is not `expected`, ShardRefused when the topic is another one.
        """
        return self.receive(self.send(shard, topic_id, expected, next_offset, operations))

    def send(
        self, shard: int, topic_id: str, expected: int | None, next_offset: int, operations: Operations
    ) -> Sending:
        """Begin to apply a batch. The next one may follow at once, with this one's `next_offset` as what it expects:
        should this one fail, the fence lets none of its followers through."""
        args = [topic_id, "" if expected is None else expected, next_offset, *self._limits, *operations.arguments]
        with redis_faults(f"sending a batch to shard {shard}"):
            call = self._line.send([keys.offset(shard), keys.counts(shard)], args)
        return Sending(shard, topic_id, expected, call)

    def receive(self, sending: Sending) -> Applied:
        """Wait until a batch is applied. Batches are received in the order in which they were sent.

        Raises as apply. After RedisUnavailable it may have been applied or not, as may those sent after it.
        """
        shard, topic_id = sending.shard, sending.topic_id
        with redis_faults(f"applying a batch to shard {shard}"):
            reply = self._line.receive(sending.call)
        if reply[0] == "OFFSET":
            raise FencedError(shard, sending.expected, int(reply[1]) if reply[1] else None)
        if reply[0] == "TOPIC":
            raise ShardRefused(
                f"shard {shard}: its state was read from topic id {reply[1]}, the topic now has id {topic_id}; it was "
                "recreated. Point the worker at the old topic, or run `audience-stream reset-offsets` to go on with "
                "this one"
            )
        entered, left, unchanged, stale, suppressed, erased = reply[1]
        counts = {_parse_field(field): int(count) for field, count in zip(reply[2], reply[3], strict=True)}
        return Applied(entered, left, unchanged, stale, suppressed, erased, counts, int(reply[4]))

    def close(self) -> None:
        """Close what apply has opened."""
        self._line.close()

    def snapshot(self, shard: int) -> tuple[Counts, int]:
        """All counts of a shard and the offset that they belong to, read at one moment."""
        with redis_faults(f"reading the counts of shard {shard}"):
            pipe = self._client.pipeline(transaction=True)
            pipe.hgetall(keys.counts(shard))
            pipe.hget(keys.offset(shard), "offset")
            counts, offset = pipe.execute()
        return {_parse_field(field): int(count) for field, count in counts.items()}, int(offset or 0)

    def recount(self) -> dict[int, Counts]:
        """Count the sets themselves, shard by shard, as `verify` does."""
        recounted: dict[int, Counts] = {}
        for batch in self._member_keys():
            with redis_faults("recounting the sets"):
                pipe = self._client.pipeline(transaction=False)
                for key in batch:
                    pipe.smembers(key)
                replies = pipe.execute()
            for key, found in zip(batch, replies, strict=True):
                shard, account = keys.parse_members(key)
                counts = recounted.setdefault(shard, {})
                for member in found:
                    field = (account, *decode_member(member))
                    counts[field] = counts.get(field, 0) + 1
        return recounted

    def _member_keys(self) -> Iterator[list[str]]:
        with redis_faults("scanning the sets"):
            seen: set[str] = set()  # SCAN may return a key twice while the table is resized
            batch: list[str] = []
            for key in self._client.scan_iter(match=keys.ALL_MEMBERS, count=1000):
                if key in seen:
                    continue
                seen.add(key)
                batch.append(key)
                if len(batch) == 1000:  # noqa: PLR2004 - a pipeline of this size answers within the time-out
                    yield batch
                    batch = []
            if batch:
                yield batch


def _parse_field(field: str) -> tuple[str, int, int]:
    account, _, member = field.partition(":")
    return (account, *decode_member(member))
