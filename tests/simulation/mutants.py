"""Broken rules, one at a time: a simulation that finds none of them would prove nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import ingest_gateway.membership
from audience_core.domain import shard_state
from audience_core.domain.records import MembershipChange, VisitorErased
from audience_core.domain.shard_state import ShardState, Visitor
from audience_core.errors import FencedError
from audience_core.redis.catalog import AsyncCatalogStore
from audience_core.redis.shard_store import ShardStore
from audience_indexer.indexer import Indexer
from audience_indexer.last_states import LastStates
from audience_indexer.totals import Totals
from ingest_gateway.subscriptions import Subscriptions
from membership_worker.worker import Worker
from tests.simulation.simulated_redis import RedisServer

Patch = tuple[object, str, Any]


def _no_fence() -> Patch:
    real = RedisServer.apply

    def apply(self: RedisServer, keys_and_args: tuple[Any, ...]) -> list[Any]:
        offset_key, counts_key, topic, _, *rest = keys_and_args
        believed = self.data.get(offset_key, {}).get("offset", "")
        return real(self, (offset_key, counts_key, topic, believed, *rest))

    return RedisServer, "apply", apply


def _any_order() -> Patch:
    return shard_state, "abs", lambda _: 0


def _always_counted() -> Patch:
    def set_(self: ShardState, visitor: Visitor, member: str, *, present: bool) -> None:
        (self.members[visitor].add if present else self.members[visitor].discard)(member)
        self.counts[visitor[0], member] += 1 if present else -1

    return ShardState, "_set", set_


def _erased_comes_back() -> Patch:
    real = ShardState.change

    def change(self: ShardState, record: MembershipChange) -> None:
        self.suppressed.pop((record["account"], record["mpid"]), None)
        real(self, record)

    return ShardState, "change", change


def _erasure_forgotten() -> Patch:
    def erase_visitor(_self: ShardState, _record: VisitorErased) -> None:
        return

    return ShardState, "erase_visitor", erase_visitor


def _echo_ignored() -> Patch:
    return ingest_gateway.membership, "_echoed", lambda _: None


def _worker_trusts_itself() -> Patch:
    """After the fence, the worker believes the offset that Redis holds and reads on from where it was."""

    def resync(self: Worker, number: int, failure: Any) -> None:
        shard = self._shards.taken.get(number)
        if shard is not None and isinstance(failure, FencedError):
            shard.stored = failure.stored

    return Worker, "_resync", resync


def _idle_shards_unwatched() -> Patch:
    return ShardStore, "offsets", lambda _self, _shards: {}


def _late_counts_win() -> Patch:
    def count(self: Totals, record: Any) -> None:
        by_shard = self.counts[record["account"], record["audience_id"]]
        by_shard[record["epoch"], record["shard"]] = (record["offset"], record["count"])

    return Totals, "count", count


def _old_epochs_counted() -> Patch:
    def total(self: Totals, audience: tuple[str, int]) -> int:
        return sum(count for _, count in self.counts.get(audience, {}).values())

    return Totals, "total", total


def _listing_not_mended() -> Patch:
    """Not `went_back` alone: what was written is looked for too, which here mends nearly all that the mark would tell.
    Each of the two has a mutant of its own in tests/mutation."""
    return Indexer, "_rebuild", lambda _: None


def _epochs_go_back() -> Patch:
    def meet(self: AsyncCatalogStore, state: Any) -> None:
        self._met.setdefault(state["account"], {})[state["audience_id"]] = state

    return AsyncCatalogStore, "meet", meet


def _topic_not_asked() -> Patch:
    async def meet_published(_self: Subscriptions, _account: str, _audience_id: int) -> None:
        return

    return Subscriptions, "_meet_published", meet_published


def _late_left_last() -> Patch:
    return LastStates, "note", lambda _self, _last, _newest: None


MUTANTS: dict[str, Callable[[], Patch]] = {
    "no-fence": _no_fence,
    "any-order": _any_order,
    "always-counted": _always_counted,
    "erased-comes-back": _erased_comes_back,
    "erasure-forgotten": _erasure_forgotten,
    "echo-ignored": _echo_ignored,
    "worker-trusts-itself": _worker_trusts_itself,
    "idle-shards-unwatched": _idle_shards_unwatched,
    "late-counts-win": _late_counts_win,
    "old-epochs-counted": _old_epochs_counted,
    "listing-not-mended": _listing_not_mended,
    "epochs-go-back": _epochs_go_back,
    "topic-not-asked": _topic_not_asked,
    "late-left-last": _late_left_last,
}


@contextmanager
def mutated(name: str | None) -> Iterator[None]:
    """Break the named rule, or none."""
    if name is None:
        yield
        return
    target, attribute, broken = MUTANTS[name]()
    with patch.object(target, attribute, broken, create=attribute == "abs"):
        yield
