"""The gateway's view of the catalog, on a real Redis that is set back."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from audience_core.domain.records import AudienceSubscription
from audience_core.domain.subscriptions import SubscriptionAction
from audience_core.redis import keys
from audience_core.redis.catalog import AsyncCatalogStore
from audience_core.redis.connect import AsyncRedis, connect_async
from audience_core.settings import CoreSettings


def run(redis_url: str, scenario: Callable[[AsyncRedis, AsyncCatalogStore], Awaitable[None]]) -> None:
    async def with_client() -> None:
        client = connect_async(CoreSettings(redis_url=redis_url))
        try:
            await scenario(client, AsyncCatalogStore(client))
        finally:
            await client.aclose()

    asyncio.run(with_client())


async def subscribe(store: AsyncCatalogStore, action: SubscriptionAction, occurred_at: int) -> AudienceSubscription:
    return await store.subscribe(
        account="demo",
        audience_id=7,
        action=action,
        name="Buyers",
        description="",
        settings={},
        occurred_at=occurred_at,
    )


def test_an_epoch_is_never_opened_twice_though_redis_was_set_back(redis_url: str) -> None:
    async def scenario(client: AsyncRedis, store: AsyncCatalogStore) -> None:
        await subscribe(store, "add", 1)
        then: Any = await cast(Any, client).hgetall(keys.catalog("demo"))
        assert (await subscribe(store, "remove", 2))["epoch"] == 1
        await subscribe(store, "add", 3)
        await cast(Any, client).hset(keys.catalog("demo"), mapping=then)
        state = await subscribe(store, "remove", 4)
        assert (state["status"], state["epoch"]) == ("REMOVED", 2)
        assert await AsyncCatalogStore(client).read("demo") == {7: state}

    run(redis_url, scenario)


def test_a_catalog_that_was_met_is_not_forgotten_with_redis(redis_url: str) -> None:
    async def scenario(client: AsyncRedis, store: AsyncCatalogStore) -> None:
        await subscribe(AsyncCatalogStore(client), "remove", 2)
        met = await store.read("demo")
        await client.delete(keys.catalog("demo"))
        assert await store.read("demo") == met
        assert await AsyncCatalogStore(client).read("demo") == {}

    run(redis_url, scenario)


def test_what_others_wrote_later_is_taken_over(redis_url: str) -> None:
    async def scenario(client: AsyncRedis, store: AsyncCatalogStore) -> None:
        await subscribe(store, "add", 1)
        await subscribe(AsyncCatalogStore(client), "remove", 2)
        assert (await subscribe(store, "add", 3))["epoch"] == 1

    run(redis_url, scenario)
