"""Compares everything that Redis holds with the rule in plain Python, folded over the log."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from audience_core.domain.members import encode_member
from audience_core.domain.mpids import unpack_mpid
from audience_core.domain.records import AudienceSubscription
from audience_core.domain.shard_state import ShardState
from audience_core.redis import catalog, keys
from tests.faults.log import ChangesLog

Item = tuple[str, ...]
"""a member of a set, the guard of a member, a suppression or an identity of a visitor"""
Subscriptions = dict[tuple[str, int], AudienceSubscription]
"""(account, audience id) → its newest state"""
_BATCH = 500


@dataclass(frozen=True)
class Outcome:
    """What a fault has cost; all three are 0, or a promise is broken."""

    lost: int
    """acknowledged changes that are not in the log, and items that should be in Redis and are not"""
    phantom: int
    """items that are in Redis and should not be"""
    drift: int
    """sum of absolute differences of counts: those of the shards, and those of the listing"""
    examples: tuple[str, ...] = ()


def stored_offsets(client: Any, shards: int) -> dict[int, int]:
    """Next offset of each shard as Redis holds it."""
    return {shard: int(client.hget(keys.offset(shard), "offset") or 0) for shard in range(shards)}


def expected_items(states: dict[int, ShardState]) -> Iterator[Item]:
    """What the rule says."""
    for state in states.values():
        for visitor, members in state.members.items():
            yield from (("member", *visitor, member) for member in members)
        for visitor, guards in state.guards.items():
            yield from (("guard", *visitor, member, str(signed)) for member, signed in guards.items())
        yield from (("suppressed", *visitor) for visitor in state.suppressed)
        for (account, identity), mpids in state.identities.items():
            yield from (("identity", account, identity, mpid) for mpid in mpids)


def found_items(client: Any, shards: int) -> Iterator[Item]:
    """What Redis holds. A key in a shard where it does not belong is a phantom too."""
    found = sorted(set(client.scan_iter(match="{s*}:*", count=1000)))
    for first in range(0, len(found), _BATCH):
        names = found[first : first + _BATCH]
        pipe = client.pipeline(transaction=False)
        for name in names:
            _ask(pipe, name)
        for name, reply in zip(names, pipe.execute(), strict=True):
            tag, kind, *rest = name.split(":", 3)
            visitor = (rest[0], unpack_mpid(rest[1])) if kind in {"m", "v", "x"} else ()
            if int(tag[2:-1]) >= shards:
                yield ("foreign", name)
            elif kind == "m":
                yield from (("member", *visitor, member) for member in reply)
            elif kind == "v":
                yield from (("guard", *visitor, member, signed) for member, signed in reply.items() if member != "r")
            elif kind == "x":
                yield ("suppressed", *visitor)
            elif kind == "i":
                yield from (("identity", *rest, unpack_mpid(name)) for name in reply)


def _ask(pipe: Any, name: str) -> None:
    kind = name.split(":", 2)[1]
    if kind in {"m", "i", "j"}:
        pipe.smembers(name)
    elif kind in {"x", "y"}:
        pipe.get(name)
    elif kind == "r":  # receipts of a worker that was killed before it published them
        pipe.llen(name)
    else:
        pipe.hgetall(name)


def shard_counts(client: Any, shards: int) -> Counter[tuple[int, str]]:
    """(shard, account:member) → count, as the script keeps it."""
    found: Counter[tuple[int, str]] = Counter()
    for shard in range(shards):
        found.update({(shard, field): int(count) for field, count in client.hgetall(keys.counts(shard)).items()})
    return found


def expected_counts(states: dict[int, ShardState]) -> Counter[tuple[int, str]]:
    """The same, from the rule's sets themselves."""
    return Counter(
        (shard, f"{account}:{member}")
        for shard, state in states.items()
        for (account, _), members in state.members.items()
        for member in members
    )


def listing_drift(client: Any, subscriptions: Subscriptions, states: dict[int, ShardState]) -> int:
    """Sum of differences between what the listing shows and the members of each audience's present epoch."""
    totals = Counter(
        (account, member)
        for state in states.values()
        for (account, _), members in state.members.items()
        for member in members
    )
    drift = 0
    for account in {account for account, _ in subscriptions}:
        counted = {int(name): json.loads(text) for name, text in client.hgetall(keys.index_counts(account)).items()}
        listed = {int(name): int(score) for name, score in client.zrange(keys.index(account), 0, -1, withscores=True)}
        known = {audience for of, audience in subscriptions if of == account}
        for audience in known | set(listed) | set(counted):
            state = subscriptions.get((account, audience))
            member = encode_member(audience, state["epoch"]) if state and state["status"] == "ACTIVE" else ""
            shown = counted[audience]["count"] if audience in counted else 0
            drift += max(abs(totals[account, member] - shown), abs(totals[account, member] - listed.get(audience, 0)))
    return drift


def catalog_differences(client: Any, subscriptions: Subscriptions) -> int:
    """Subscriptions whose state in Redis is not the newest one."""
    accounts = {account for account, _ in subscriptions}
    held = {account: catalog.parse(client.hgetall(keys.catalog(account))) for account in accounts}
    return sum(held[account].get(audience) != state for (account, audience), state in subscriptions.items())


def compare(client: Any, log: ChangesLog, states: dict[int, ShardState], acknowledged: set[str]) -> Outcome:
    """Everything but the listing, with the state that the offsets in Redis stand for."""
    shards = len(states)
    expected, found = set(expected_items(states)), set(found_items(client, shards))
    missing = acknowledged - log.request_ids
    wanted, counted = expected_counts(states), shard_counts(client, shards)
    drift = sum(abs(wanted[name] - counted[name]) for name in set(wanted) | set(counted))
    lost, phantom = expected - found, found - expected
    examples = [f"lost {item}" for item in sorted(lost)[:5]] + [f"phantom {item}" for item in sorted(phantom)[:5]]
    examples += [f"not in the log {name}" for name in sorted(missing)[:5]]
    return Outcome(len(lost) + len(missing), len(phantom), drift, tuple(examples))
