"""What requests need of an account: its catalog, its partner name and its populated audiences."""

import json
from dataclasses import dataclass
from typing import Any

from audience_core.redis import keys
from audience_core.redis.catalog import Catalog, parse
from audience_core.redis.connect import AsyncRedis, async_redis_faults
from segment_api.cache import AccountValues
from segment_api.rows import DEFAULT_PARTNER

MAX_ACCOUNTS = 10_000
MAX_AGE_S = 5.0


@dataclass(frozen=True)
class AccountView:
    """An account as of a version of its catalog."""

    catalog: Catalog
    partner: str


@dataclass(frozen=True)
class Populated:
    """The catalog, and of each audience that is subscribed and not empty the exact count, as the listing shows it."""

    catalog: Catalog
    counts: dict[int, int]


class AccountCache:
    """Views of the accounts asked for lately."""

    def __init__(self, client: AsyncRedis, *, max_accounts: int = MAX_ACCOUNTS) -> None:
        self._client: Any = client
        self._views = AccountValues(self._load, max_age_s=lambda _: MAX_AGE_S, max_accounts=max_accounts)

    async def view(self, account: str, version: str | None) -> AccountView:
        """Return the account as of `version`, which the caller has just read, or later. Raises RedisUnavailable.

        The age matters too: connectors have no version, and a restored Redis may reach the same version again.
        """
        return await self._views.get(account, version)

    def current(self, account: str, version: str | None) -> AccountView | None:
        """As view, but None when that would have to ask Redis."""
        return self._views.current(account, version)

    async def populated(self, account: str) -> Populated:
        """Return the account's audiences as they are now. Raises RedisUnavailable."""
        async with async_redis_faults("reading the listing"):
            pipe = self._client.pipeline(transaction=False)
            pipe.hget(keys.CATALOG_VERSIONS, account)
            pipe.zrange(keys.index(account), 0, -1, withscores=True)
            version, index = await pipe.execute()
        catalog = (await self.view(account, version)).catalog
        counts = {int(audience_id): int(score) for audience_id, score in index}
        return Populated(catalog, {a: count for a, count in counts.items() if is_active(catalog, a)})

    async def _load(self, account: str, _version: str | None) -> AccountView:
        async with async_redis_faults("reading an account's catalog"):
            pipe = self._client.pipeline(transaction=False)
            pipe.hgetall(keys.catalog(account))
            pipe.hgetall(keys.connectors(account))
            catalog, connectors = await pipe.execute()
        return AccountView(parse(catalog), _partner(connectors))


def is_active(catalog: Catalog, audience_id: int) -> bool:
    """Whether an audience is subscribed now."""
    state = catalog.get(audience_id)
    return state is not None and state["status"] == "ACTIVE"


def _partner(connectors: dict[str, str]) -> str:
    stored = sorted((json.loads(text) for text in connectors.values()), key=lambda c: (c["created_at"], c["id"]))
    return next((str(c["partner"]) for c in stored if c.get("partner")), DEFAULT_PARTNER)
