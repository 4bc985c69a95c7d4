"""SIGTERM and SIGINT ask a process to stop; a stop that takes too long ends it."""

import os
import signal
import threading
from collections.abc import Callable
from typing import TypeVar

from audience_core.errors import RetryableError
from audience_core.observability.logging import get_logger

T = TypeVar("T")
log = get_logger()
EXIT_DRAIN_TIMED_OUT = 3


class Stop:
    """Call it to ask whether a stop was asked for."""

    def __init__(self, drain_timeout: float) -> None:
        self._drain_timeout = drain_timeout
        self._asked = threading.Event()

    def __call__(self) -> bool:
        return self._asked.is_set()

    def listen(self) -> None:
        """Take over the two signals; main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._ask())

    def wait(self, seconds: float) -> None:
        """Sleep, but not longer than until a stop is asked for."""
        self._asked.wait(seconds)

    def _ask(self) -> None:
        self._asked.set()
        timer = threading.Timer(self._drain_timeout, self._give_up)
        timer.daemon = True
        timer.start()

    def _give_up(self) -> None:
        log.error("drain_timed_out", seconds=self._drain_timeout)
        os._exit(EXIT_DRAIN_TIMED_OUT)


def patiently(attempt: Callable[[], T], stop: Stop) -> T | None:
    """Try once a second until it works, as a process does before it begins; None when a stop is asked for first."""
    while not stop():
        try:
            return attempt()
        except RetryableError as error:
            log.warning("waiting", error=str(error))
            stop.wait(1.0)
    return None
