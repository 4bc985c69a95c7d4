"""Compares what the services left behind with the model."""

import json
from typing import Any

from audience_core.domain.identities import hmacs_of_erased_identity
from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.redis import catalog, keys
from audience_core.topics import ERASURES, SUBSCRIPTIONS
from segment_api.rows import shown_members
from tests.simulation import model
from tests.simulation.plan import ACCOUNT, MPIDS, SHARDS, Change
from tests.simulation.senders import Senders, Told
from tests.simulation.simulated_redis import shard_members
from tests.simulation.world import CODEC, GATEWAY, World

_ACTIONS = {"add": "ENTER", "delete": "EXIT"}


def differences(world: World, senders: Senders) -> list[str]:
    """Every lost or phantom membership, drift, lost message and wrong epoch, in words."""
    log = model.logged(world.broker)
    known = model.visitors(log)
    subscribed = model.subscriptions(senders.subscribed)
    return [
        *_members(world, known),
        *_counts(world, known),
        *_subscriptions(world, subscribed),
        *_published(world, subscribed),
        *_listing(world, known, subscribed),
        *_shown(world, known, subscribed),
        *_accepted(log, senders, subscribed),
        *_receipts(world, log),
    ]


def listing_differences(world: World, senders: Senders) -> list[str]:
    """Drift of the listing alone."""
    return _listing(world, model.visitors(model.logged(world.broker)), model.subscriptions(senders.subscribed))


def _members(world: World, known: dict[tuple[int, str], model.Visitor]) -> list[str]:
    found = []
    for shard in range(SHARDS):
        stored = shard_members(world.redis, shard)
        identities = world.redis.shards[shard].identities if shard in world.redis.shards else {}
        for mpid in MPIDS:
            wanted = {_member(*membership) for membership in known[shard, mpid].members}
            held = stored.get((ACCOUNT, mpid), set())
            found += [f"lost: shard {shard}, {mpid} is not in {member}" for member in sorted(wanted - held)]
            found += [f"phantom: shard {shard}, {mpid} is in {member}" for member in sorted(held - wanted)]
            indexed = {identity for (_, identity), mpids in identities.items() if mpid in mpids}
            if indexed != known[shard, mpid].emails:
                found.append(f"identities: shard {shard} knows {mpid} by others than it should")
    return found


def _counts(world: World, known: dict[tuple[int, str], model.Visitor]) -> list[str]:
    wanted = {
        (shard, f"{ACCOUNT}:{_member(audience, epoch)}"): count
        for (shard, audience, epoch), count in model.counts(known).items()
    }
    held = {
        (shard, name): int(count)
        for shard in range(SHARDS)
        for name, count in world.redis.data.get(keys.counts(shard), {}).items()
        if int(count)
    }
    return _compared("drift: shard count", wanted, held)


def _subscriptions(world: World, subscribed: dict[int, tuple[str, int]]) -> list[str]:
    held = {a: (state["status"], state["epoch"]) for a, state in _catalog(world).items()}
    return _compared("catalog: audience", subscribed, held)


def _published(world: World, subscribed: dict[int, tuple[str, int]]) -> list[str]:
    """The last record of each key, which is all that compaction leaves."""
    records = [record for shard in range(SHARDS) for record in world.broker.logs[SUBSCRIPTIONS, shard]]
    states = {record.key_bytes: CODEC.decode(record.body)[1] for record in records}
    held = {state["audience_id"]: (state["status"], state["epoch"]) for state in states.values()}
    return _compared("topic: audience", subscribed, held)


def _listing(
    world: World, known: dict[tuple[int, str], model.Visitor], subscribed: dict[int, tuple[str, int]]
) -> list[str]:
    wanted = model.listing(known, subscribed)
    counted = {
        audience: count
        for audience, text in world.redis.data.get(keys.index_counts(ACCOUNT), {}).items()
        if (count := json.loads(text)["count"])
    }
    listed = world.redis.data.get(keys.index(ACCOUNT), {})
    return _compared("drift: listing of", wanted, listed) + _compared("drift: listed count of", wanted, counted)


def _shown(
    world: World, known: dict[tuple[int, str], model.Visitor], subscribed: dict[int, tuple[str, int]]
) -> list[str]:
    """What the SDKs are told, through the code that tells them."""
    known_catalog = _catalog(world)
    found = []
    for mpid in MPIDS:
        shard = shard_of(visitor_key(ACCOUNT, mpid), SHARDS)
        members = shard_members(world.redis, shard).get((ACCOUNT, mpid), set())
        wanted = {a for a, epoch in known[shard, mpid].members if subscribed.get(a, ("ACTIVE", 0)) == ("ACTIVE", epoch)}
        if (shown := set(shown_members(members, known_catalog))) != wanted:
            found.append(f"shown: {mpid} is told {sorted(shown)} instead of {sorted(wanted)}")
    return found


def _accepted(log: list[model.Logged], senders: Senders, subscribed: dict[int, tuple[str, int]]) -> list[str]:
    """A 200 means that the log has it, under the epoch that it belongs to."""
    found = []
    by_request: dict[str, list[model.Logged]] = {}
    for entry in log:
        by_request.setdefault(entry.record["request_id"], []).append(entry)
    for told in senders.accepted:
        entries = by_request.get(told.request_id, [])
        if told.change is not None:
            found += _changed(told, told.change, entries, senders, subscribed)
        elif told.erase is not None and not _erased(told, entries):
            found.append(f"lost: erasure {told.request_id} was accepted but is not in the log")
    return found


def _changed(
    told: Told, change: Change, entries: list[model.Logged], senders: Senders, subscribed: dict[int, tuple[str, int]]
) -> list[str]:
    found = []
    for mpid in change.mpids:
        of_mpid = [entry for entry in entries if entry.record["mpid"] == mpid]
        written = [c for entry in of_mpid for c in entry.record["changes"]]
        if any(entry.record["occurred_at"] != told.occurred_at for entry in of_mpid):
            found.append(f"time: {told.request_id} has another time in the log")
        for (audience, action), echoed in zip(change.changes, told.echoed, strict=True):
            epochs = {c["epoch"] for c in written if (c["audience_id"], c["action"]) == (audience, _ACTIONS[action])}
            if echoed is not None and epochs != {echoed}:
                found.append(f"epoch: {told.request_id} of {mpid} in {audience}@{echoed} is logged as {sorted(epochs)}")
            elif echoed is None and not epochs and "remove" not in senders.subscribed[audience]:
                found.append(f"lost: {told.request_id} of {mpid} in {audience} was accepted but is not in the log")
            elif max(epochs, default=0) > subscribed.get(audience, ("", 0))[1]:
                found.append(f"epoch: {told.request_id} of {mpid} in {audience} is logged as {sorted(epochs)}")
    return found


def _erased(told: Told, entries: list[model.Logged]) -> bool:
    assert told.erase is not None
    if told.erase.mpid is not None:
        return {entry.record.get("mpid") for entry in entries} == {told.erase.mpid}
    pepper = GATEWAY.required_pepper()
    forms = set(hmacs_of_erased_identity(pepper, ACCOUNT, "email", "raw", told.erase.email or ""))
    return {entry.shard for entry in entries if set(entry.record["identities"]) == forms} == set(range(SHARDS))


def _receipts(world: World, log: list[model.Logged]) -> list[str]:
    """Every erasure of the log was carried out by its shard, and that was told."""
    told = {
        (receipt["request_id"], receipt["shard"], receipt["offset"])
        for (topic, _), records in world.broker.logs.items()
        if topic == ERASURES
        for _, receipt in (CODEC.decode(record.body) for record in records)
    }
    return [
        f"receipt: nothing tells that shard {entry.shard} carried out the erasure at {entry.offset}"
        for entry in log
        if entry.kind != "MembershipChange" and (entry.record["request_id"], entry.shard, entry.offset) not in told
    ]


def _catalog(world: World) -> catalog.Catalog:
    return catalog.parse(world.redis.data.get(keys.catalog(ACCOUNT), {}))


def _member(audience: int, epoch: int) -> str:
    return f"{audience}@{epoch}" if epoch else f"{audience}"


def _compared(what: str, wanted: Any, held: Any) -> list[str]:
    return [
        f"{what} {key}: {held.get(key)} instead of {wanted.get(key)}"
        for key in sorted(set(wanted) | set(held), key=str)
        if wanted.get(key) != held.get(key)
    ]
