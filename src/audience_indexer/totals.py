"""Latest absolute count per audience, epoch and shard; totals are their sums. Pure: no I/O."""

from collections import defaultdict
from dataclasses import dataclass, field

from audience_core.domain.records import AudienceSubscription, ShardCount
from audience_core.domain.subscriptions import newer

Audience = tuple[str, int]
"""(account, audience id)"""


@dataclass
class Totals:
    """What the two compacted topics, or the shards themselves, say."""

    subscriptions: dict[Audience, AudienceSubscription] = field(default_factory=dict)
    counts: dict[Audience, dict[tuple[int, int], tuple[int, int]]] = field(default_factory=lambda: defaultdict(dict))
    """audience → (epoch, shard) → (offset, count)"""

    def subscribe(self, state: AudienceSubscription) -> AudienceSubscription:
        """Keep the newest state of a subscription, and return it."""
        audience = (state["account"], state["audience_id"])
        current = self.subscriptions.get(audience)
        newest = self.subscriptions[audience] = state if current is None else newer(current, state)
        return newest

    def count(self, record: ShardCount) -> None:
        """Keep a shard's latest count; one of an earlier offset comes from a worker that has lost the shard."""
        by_shard = self.counts[record["account"], record["audience_id"]]
        key = (record["epoch"], record["shard"])
        if key not in by_shard or by_shard[key][0] <= record["offset"]:
            by_shard[key] = (record["offset"], record["count"])

    def replace_shard(
        self, shard: int, counts: dict[tuple[str, int, int], int], offset: int, *, reached: int
    ) -> set[Audience]:
        """Take over a shard's own counts, read at `offset`; return the audiences whose numbers changed.

        A count that came with a later offset is kept, unless the shard has not `reached` that offset by now: then it is
        of a former life of Redis or of the log.
        """
        changed: set[Audience] = set()
        for audience, by_shard in self.counts.items():
            for (epoch, number), (at, count) in list(by_shard.items()):
                if number != shard or offset < at <= reached:
                    continue
                own = counts.get((*audience, epoch), 0)
                by_shard[epoch, number] = (offset, own)
                if own != count:
                    changed.add(audience)
        for (account, audience_id, epoch), own in counts.items():
            by_shard = self.counts[account, audience_id]
            if (epoch, shard) not in by_shard:
                by_shard[epoch, shard] = (offset, own)
                changed.add((account, audience_id))
        return changed

    def total(self, audience: Audience) -> int:
        """MPIDs in the present epoch of a subscribed audience; 0 when it is removed or was never subscribed."""
        state = self.subscriptions.get(audience)
        if state is None or state["status"] == "REMOVED":
            return 0
        return sum(count for (epoch, _), (_, count) in self.counts.get(audience, {}).items() if epoch == state["epoch"])
