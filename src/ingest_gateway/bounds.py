"""Bounds on waiting, all of one length, over one timer: one of its own, as asyncio.timeout has it, costs 3 µs."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
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


class TaskBound:
    """As asyncio.timeout: `with` one of `within()`, TimeoutError is raised where the task waits."""

    def __init__(self, seconds: float) -> None:
        self._bound: Bound[_Within] = Bound(seconds, _Within.expire)

    def within(self) -> "_Within":
        """For one task, one time."""
        return _Within(self._bound)


class _Within:
    __slots__ = ("_bound", "_expired", "_task")

    def __init__(self, bound: "Bound[_Within]") -> None:
        self._bound = bound
        self._expired = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._bound.begin(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bound.end(self)
        # when somebody else has cancelled the task too, it is to end
        if self._expired and self._task is not None and not self._task.uncancel() and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        self._expired = True
        if self._task is not None:
            self._task.cancel()
