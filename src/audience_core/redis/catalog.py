"""The catalog: each account's audiences, with names, status and epochs. Written by the gateway and by the indexer."""

import json
from collections.abc import Iterable
from typing import Any, cast

from audience_core.domain.records import AudienceSubscription
from audience_core.domain.subscriptions import SubscriptionAction, apply_subscription, newer
from audience_core.redis import keys, scripts
from audience_core.redis.connect import AsyncRedis, Redis, async_redis_faults, redis_faults

Catalog = dict[int, AudienceSubscription]
"""audience id → state of its subscription"""


def parse(entries: dict[str, str]) -> Catalog:
    """Read the fields of a catalog hash."""
    return {int(audience_id): cast(AudienceSubscription, json.loads(text)) for audience_id, text in entries.items()}


class AsyncCatalogStore:
    """The catalog as the gateway uses it. Methods raise RedisUnavailable.

    It never goes back behind a state that it has met, in Redis or elsewhere: when Redis was restored to an older one,
    and until the indexer has mended that, changes would else be taken to belong to an epoch that is over.
    """

    def __init__(self, client: AsyncRedis) -> None:
        self._client: Any = client
        self._met: dict[str, Catalog] = {}

    async def subscribe(
        self,
        *,
        account: str,
        audience_id: int,
        action: SubscriptionAction,
        name: str,
        description: str,
        settings: dict[str, str],
        occurred_at: int,
    ) -> AudienceSubscription:
        """Apply a subscription message and return the state after it, whoever else writes meanwhile."""
        async with async_redis_faults("writing the catalog"):
            while True:
                field = str(audience_id)
                before = await self._client.hget(keys.catalog(account), field)
                if before:
                    self.meet(cast(AudienceSubscription, json.loads(before)))
                state = apply_subscription(
                    self._met.get(account, {}).get(audience_id),
                    account=account,
                    audience_id=audience_id,
                    action=action,
                    name=name,
                    description=description,
                    settings=settings,
                    occurred_at=occurred_at,
                )
                args = [field, before or "", json.dumps(state, ensure_ascii=False)]
                if await scripts.call_async(self._client, "compare_and_set", [keys.catalog(account)], args):
                    self.meet(state)
                    await self._client.hincrby(keys.CATALOG_VERSIONS, account, 1)
                    return state

    async def read(self, account: str) -> Catalog:
        """All audiences of an account."""
        async with async_redis_faults("reading the catalog"):
            entries = parse(await self._client.hgetall(keys.catalog(account)))
        for state in entries.values():
            self.meet(state)
        return dict(self._met.get(account, {}))

    def meet(self, state: AudienceSubscription) -> None:
        """Remember a state, unless a newer one was met."""
        met, audience_id = self._met.setdefault(state["account"], {}), state["audience_id"]
        met[audience_id] = newer(met[audience_id], state) if audience_id in met else state

    async def versions(self) -> dict[str, str]:
        """account → a number that changes with its catalog, and with its saved segments."""
        async with async_redis_faults("reading the catalog's versions"):
            return dict(await self._client.hgetall(keys.CATALOG_VERSIONS))


def holds(client: Redis, states: Iterable[AudienceSubscription]) -> bool:
    """Whether the catalog holds each of these states, or a newer one. Raises RedisUnavailable."""
    expected = list(states)
    with redis_faults("reading the catalog"):
        pipe = client.pipeline(transaction=False)
        for state in expected:
            pipe.hget(keys.catalog(state["account"]), str(state["audience_id"]))
        found = pipe.execute()
    return all(text and _covers(json.loads(text), state) for text, state in zip(found, expected, strict=True))


def restore(client: Redis, state: AudienceSubscription) -> None:
    """Write a state that came back from the subscriptions topic, unless the catalog holds a newer one."""
    key, field = keys.catalog(state["account"]), str(state["audience_id"])
    with redis_faults("restoring the catalog"):
        while True:
            before = cast("str | None", client.hget(key, field))
            if before and _covers(json.loads(before), state):
                return
            args = [field, before or "", json.dumps(state, ensure_ascii=False)]
            if scripts.call(client, "compare_and_set", [key], args):
                client.hincrby(keys.CATALOG_VERSIONS, state["account"], 1)
                return


def _covers(held: AudienceSubscription, state: AudienceSubscription) -> bool:
    return newer(held, state) == held
