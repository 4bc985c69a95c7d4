"""Erasures: what was asked for, and what each shard has deleted. Numbers only; nothing of the person is kept here.

A shard's receipt is written by the apply script, in the same step as the deletion, into a list of the shard. The worker
publishes it, notes it under the request and then takes it off the list. A note is named by the shard and the erasure's
offset, and the first one stays: a crash between these repeats it, and a log that is read once more (ADR 17) finds
nothing left to delete.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

from audience_core.redis import keys
from audience_core.redis.connect import AsyncRedis, Redis, async_redis_faults, redis_faults

KEPT_S = 90 * 86_400


class Receipt(NamedTuple):
    """What one shard deleted for one erasure. `text` is the list's entry."""

    text: str
    kind: Literal["V", "I"]
    """of one visitor, or by identity in every shard"""
    account: str
    request_id: str
    offset: int
    received_at: int
    visitors: int
    memberships: int
    identities: int


@dataclass(frozen=True)
class Progress:
    """How far an erasure has come. `shards` is None when its acceptance is not known: Redis was away, or lost it."""

    accepted_at: int | None
    shards: int | None
    done: int
    visitors: int
    memberships: int
    identities: int


class ReceiptStore:
    """The worker's side. Methods raise RedisUnavailable."""

    def __init__(self, client: Redis) -> None:
        self._client: Any = client

    def waiting(self, shard: int) -> list[Receipt]:
        """Receipts of a shard that have not been published, oldest first."""
        with redis_faults(f"reading the receipts of shard {shard}"):
            entries = cast("list[str]", self._client.lrange(keys.receipts(shard), 0, 999))
        return [_parse(text) for text in entries]

    def settle(self, shard: int, receipts: Iterable[Receipt]) -> None:
        """Note receipts under their requests, and take them off the shard's list."""
        notes, taken = self._client.pipeline(transaction=False), self._client.pipeline(transaction=False)
        for receipt in receipts:
            key = keys.erasure(receipt.account, receipt.request_id)
            numbers = f"{receipt.kind} {receipt.visitors} {receipt.memberships} {receipt.identities}"
            notes.hsetnx(key, f"{shard}:{receipt.offset}", numbers)  # read once more there was nothing left to delete
            notes.expire(key, KEPT_S)
            taken.lrem(keys.receipts(shard), 1, receipt.text)
        with redis_faults("noting an erasure"):
            notes.execute()
            taken.execute()


class ErasureStore:
    """The side of the gateway and the API. Methods raise RedisUnavailable."""

    def __init__(self, client: AsyncRedis, shards: int) -> None:
        self._client: Any = client
        self._shards = shards

    async def accept(self, account: str, request_id: str, shards: set[int], now: int) -> None:
        """Note that an erasure is durable in the log, and which shards will carry it out. `now` is in milliseconds."""
        key = keys.erasure(account, request_id)
        async with async_redis_faults("noting an erasure"):
            pipe = self._client.pipeline(transaction=False)
            pipe.hsetnx(key, "accepted_at", now)
            pipe.hset(key, "shards", len(shards))
            pipe.expire(key, KEPT_S)
            await pipe.execute()

    async def progress(self, account: str, request_id: str) -> Progress | None:
        """How far an erasure has come; None when nothing is known of it."""
        async with async_redis_faults("reading an erasure"):
            noted: dict[str, str] = await self._client.hgetall(keys.erasure(account, request_id))
        if not noted:
            return None
        accepted_at, shards = noted.pop("accepted_at", None), noted.pop("shards", None)
        receipts = [(field.partition(":")[0], *numbers.split()) for field, numbers in noted.items()]
        if shards is None and any(kind == "I" for _, kind, *_ in receipts):
            shards = str(self._shards)
        sums = [sum(int(numbers[column]) for _, _, *numbers in receipts) for column in range(3)]
        return Progress(
            accepted_at=None if accepted_at is None else int(accepted_at),
            shards=None if shards is None else int(shards),
            done=len({shard for shard, *_ in receipts}),
            visitors=sums[0],
            memberships=sums[1],
            identities=sums[2],
        )


def _parse(text: str) -> Receipt:
    kind, account, request_id, *numbers = json.loads(text)
    return Receipt(text, kind, account, request_id, *(int(number) for number in numbers))
