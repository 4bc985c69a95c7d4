"""A cache of what is read per account: one load for all who wait, the least recently used account dropped first."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

V = TypeVar("V")


@dataclass(frozen=True)
class _Entry(Generic[V]):
    version: str | None
    value: V
    expires_at: float
    """on the monotonic clock, counted from before the reading"""


class AccountValues(Generic[V]):
    """Values by account, as of a version that the caller has just read."""

    def __init__(
        self,
        load: Callable[[str, str | None], Awaitable[V]],
        *,
        max_age_s: Callable[[V], float],
        max_accounts: int,
    ) -> None:
        self._load = load
        self._max_age_s = max_age_s
        self._max_accounts = max_accounts
        self._entries: OrderedDict[str, _Entry[V]] = OrderedDict()
        self._loading: dict[tuple[str, str | None], asyncio.Task[_Entry[V]]] = {}

    def peek(self, account: str) -> V | None:
        """What was loaded last, however old it is."""
        entry = self._entries.get(account)
        return entry.value if entry else None

    def current(self, account: str, version: str | None = None) -> V | None:
        """The value as of `version`, when it is in memory and young enough."""
        entry = self._entries.get(account)
        if entry is None or entry.version != version or time.monotonic() >= entry.expires_at:
            return None
        self._entries.move_to_end(account)
        return entry.value

    async def get(self, account: str, version: str | None = None) -> V:
        """Return the value as of `version` or later. Raises what loading raises."""
        value = self.current(account, version)
        if value is not None:
            return value
        # shielded, because the one who gives up must not end it for the others
        task = self._loading.get((account, version))
        if task is None:
            task = asyncio.create_task(self._read(account, version))
            self._loading[account, version] = task
            task.add_done_callback(lambda done: self._loaded(account, version, done))
        return (await asyncio.shield(task)).value

    async def _read(self, account: str, version: str | None) -> _Entry[V]:
        began = time.monotonic()
        value = await self._load(account, version)
        return _Entry(version, value, began + self._max_age_s(value))

    def _loaded(self, account: str, version: str | None, task: "asyncio.Task[_Entry[V]]") -> None:
        del self._loading[account, version]
        if task.cancelled() or task.exception() is not None:
            return
        self._entries[account] = task.result()
        self._entries.move_to_end(account)
        while len(self._entries) > self._max_accounts:
            self._entries.popitem(last=False)
