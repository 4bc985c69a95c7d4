"""Bounds on waiting, all of one length, over one timer: one of its own, as asyncio.timeout has it, costs 3 µs."""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

W = TypeVar("W")


class Bound(Generic[W]):
    """A bound of so many seconds, for everything that waits in this event loop."""

    def __init__(self, seconds: float, expire: Callable[[W], None]) -> None:
        """`expire` is called with what waits when the bound is over and `end` was not called."""
        self._seconds = seconds
        self._expire = expire
        self._due: dict[W, float] = {}
        """in the order of beginning, which is that of their ends"""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, waiting: W) -> None:
        """It waits from now on; if it waits already, anew."""
        self._due.pop(waiting, None)
        self._due[waiting] = time.monotonic() + self._seconds
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)

    def end(self, waiting: W) -> None:
        """It waits no more."""
        self._due.pop(waiting, None)

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        for waiting, due in list(self._due.items()):
            if due > now:
                self._timer = asyncio.get_running_loop().call_later(due - now, self._look)
                return
            del self._due[waiting]
            self._expire(waiting)
