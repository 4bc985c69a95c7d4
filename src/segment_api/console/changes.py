"""Looks for changes of an account on behalf of the open pages."""

import asyncio
from typing import Any

from audience_core.errors import RedisUnavailable
from audience_core.redis import keys
from audience_core.redis.connect import AsyncRedis, async_redis_faults

POLL_S = 0.5

State = dict[str, str]
"""kind of change → a text that differs when something of that kind changed"""


class Watch:
    """One page's ear: `kinds` is what changed since it was last taken."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()
        self._event = asyncio.Event()

    def note(self, kinds: set[str]) -> None:
        """Something changed."""
        self._kinds |= kinds
        self._event.set()

    async def wait(self, seconds: float) -> set[str]:
        """Return what changed, at the latest after some seconds; nothing then."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return set()
        self._event.clear()
        taken, self._kinds = self._kinds, set()
        return taken


class Changes:
    """Looks at each account that somebody watches, once for all of its watchers."""

    def __init__(self, client: AsyncRedis) -> None:
        self._client: Any = client
        self._seen: dict[str, State] = {}
        self._watches: dict[str, set[Watch]] = {}
        self._task: asyncio.Task[None] | None = None
        self.closing = False

    def watch(self, account: str) -> Watch:
        """Begin to watch; give it back to unwatch."""
        watch = Watch()
        self._watches.setdefault(account, set()).add(watch)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        return watch

    def unwatch(self, account: str, watch: Watch) -> None:
        """End a watch."""
        watching = self._watches.get(account, set())
        watching.discard(watch)
        if not watching:
            self._watches.pop(account, None)
            self._seen.pop(account, None)

    def close(self) -> None:
        """End every stream: the process is about to stop."""
        self.closing = True
        for watches in self._watches.values():
            for watch in watches:
                watch.note(set())

    async def _look(self) -> None:
        while self._watches and not self.closing:
            for account in list(self._watches):
                try:
                    state = await self._state(account)
                except RedisUnavailable:
                    continue  # the pages say so themselves; this looks again
                # the first look tells all: something may have changed between the page and it
                before = self._seen.get(account, {})
                kinds = {kind for kind in state if state[kind] != before.get(kind)}
                for watch in self._watches.get(account, ()) if kinds else ():
                    watch.note(kinds)
                if account in self._watches:
                    self._seen[account] = state
            await asyncio.sleep(POLL_S)

    async def _state(self, account: str) -> State:
        async with async_redis_faults("looking for changes"):
            pipe = self._client.pipeline(transaction=False)
            pipe.hget(keys.CATALOG_VERSIONS, account)
            pipe.get(keys.INDEX_VERSION)
            pipe.hgetall(keys.activity(account))
            catalog, index, activity = await pipe.execute()
        return {"audiences": f"{catalog} {index}", "requests": str(sorted(activity.items()))}
