"""Looks for changes of an account on behalf of the open pages."""

import asyncio
import json
from typing import Any

from audience_core.errors import RedisUnavailable
from audience_core.redis import keys
from audience_core.redis.connect import AsyncRedis, async_redis_faults

POLL_S = 0.5


class Changes:
    """Looks for changes of the accounts that somebody watches: one look for all of an account's watchers."""

    def __init__(self, client: AsyncRedis) -> None:
        self._client: Any = client
        self._seen: dict[str, str] = {}
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None
        self.closing = False

    async def state(self, account: str) -> str:
        """A text that differs when the account's catalog or listing does. Raises RedisUnavailable."""
        async with async_redis_faults("looking for changes"):
            pipe = self._client.pipeline(transaction=False)
            pipe.hget(keys.CATALOG_VERSIONS, account)
            pipe.get(keys.INDEX_VERSION)
            return json.dumps(await pipe.execute())

    def watch(self, account: str) -> asyncio.Event:
        """Return an event that is set at every change; give it back to unwatch."""
        event = asyncio.Event()
        self._watchers.setdefault(account, set()).add(event)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        return event

    def unwatch(self, account: str, event: asyncio.Event) -> None:
        """End a watch."""
        watching = self._watchers.get(account, set())
        watching.discard(event)
        if not watching:
            self._watchers.pop(account, None)
            self._seen.pop(account, None)

    def close(self) -> None:
        """End every stream: the process is about to stop."""
        self.closing = True
        for events in self._watchers.values():
            for event in events:
                event.set()

    async def _look(self) -> None:
        while self._watchers and not self.closing:
            for account in list(self._watchers):
                try:
                    state = await self.state(account)
                except RedisUnavailable:
                    continue  # the pages say so themselves; this looks again
                if self._seen.get(account, state) != state:
                    for event in self._watchers.get(account, ()):
                        event.set()
                if account in self._watchers:
                    self._seen[account] = state
            await asyncio.sleep(POLL_S)
