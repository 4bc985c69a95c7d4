"""What a segments request needs of an account: its catalog and its partner name, cached."""

import asyncio
import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from audience_core.redis import keys
from audience_core.redis.catalog import Catalog, parse
from audience_core.redis.connect import AsyncRedis, async_redis_faults
from segment_api.rows import DEFAULT_PARTNER

MAX_ACCOUNTS = 10_000
MAX_AGE_S = 5.0


@dataclass(frozen=True)
class AccountView:
    """An account as of a version of its catalog."""

    version: str | None
    catalog: Catalog
    partner: str
    read_at: float
    """When it was read, on the monotonic clock."""


class AccountCache:
    """Views of the accounts asked for lately, the least recently used one dropped first."""

    def __init__(self, client: AsyncRedis, *, max_accounts: int = MAX_ACCOUNTS) -> None:
        self._client: Any = client
        self._max_accounts = max_accounts
        self._views: OrderedDict[str, AccountView] = OrderedDict()
        self._loading: dict[tuple[str, str | None], asyncio.Task[AccountView]] = {}

    async def view(self, account: str, version: str | None) -> AccountView:
        """Return the account as of `version`, which the caller has just read, or later. Raises RedisUnavailable.

        The age matters too: connectors have no version, and a restored Redis may reach the same version again.
        """
        cached = self._views.get(account)
        if cached is not None and cached.version == version and time.monotonic() - cached.read_at < MAX_AGE_S:
            self._views.move_to_end(account)
            return cached
        # one load for all who wait for it; shielded, because the one who gives up must not end it for the others
        task = self._loading.get((account, version))
        if task is None:
            task = asyncio.create_task(self._load(account, version))
            self._loading[account, version] = task
            task.add_done_callback(lambda done: self._loaded(account, version, done))
        return await asyncio.shield(task)

    def _loaded(self, account: str, version: str | None, task: "asyncio.Task[AccountView]") -> None:
        del self._loading[account, version]
        if task.cancelled() or task.exception() is not None:
            return
        self._views[account] = task.result()
        self._views.move_to_end(account)
        while len(self._views) > self._max_accounts:
            self._views.popitem(last=False)

    async def _load(self, account: str, version: str | None) -> AccountView:
        read_at = time.monotonic()
        async with async_redis_faults("reading an account's catalog"):
            pipe = self._client.pipeline(transaction=False)
            pipe.hgetall(keys.catalog(account))
            pipe.hgetall(keys.connectors(account))
            catalog, connectors = await pipe.execute()
        return AccountView(version, parse(catalog), _partner(connectors), read_at)


def _partner(connectors: dict[str, str]) -> str:
    stored = sorted((json.loads(text) for text in connectors.values()), key=lambda c: (c["created_at"], c["id"]))
    return next((str(c["partner"]) for c in stored if c.get("partner")), DEFAULT_PARTNER)
