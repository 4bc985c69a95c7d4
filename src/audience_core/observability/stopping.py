"""SIGTERM and SIGINT ask a process to stop; a stop that takes too long ends it."""

import faulthandler
import os
import signal
import threading
from collections.abc import Callable
from typing import TypeVar

from audience_core.errors import RetryableError
from audience_core.observability.logging import get_logger

log = get_logger()
T = TypeVar("T")
_EVERY_S = 1.0
_NOTES = 4
"""while it waits for the next attempt"""
EXIT_DRAIN_TIMED_OUT = 3
_TRACEBACK_AFTER_S = 1.0
"""after the drain timeout, for a process in which no thread can run"""


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

    def retrying(self, attempt: Callable[[], T], note: Callable[[str | None], None]) -> T | None:
        """Try every second until what a process needs before it starts is there; None when told to stop first.

        `note` learns, for the probes, what is waited for, and None at the end; more often than it is tried, since who
        tells nothing for a while counts as hanging.
        """
        while not self():
            try:
                result = attempt()
            except RetryableError as error:
                log.warning("waiting", error=str(error))
                for _ in range(_NOTES):
                    note(str(error))
                    self.wait(_EVERY_S / _NOTES)
            else:
                note(None)
                return result
        return None

    def _ask(self) -> None:
        self._asked.set()
        # a call into the Kafka client that never returns may hold the interpreter's lock: then no timer of ours runs.
        # This one needs no lock, and its traceback tells which call it was
        faulthandler.dump_traceback_later(self._drain_timeout + _TRACEBACK_AFTER_S, exit=True)
        timer = threading.Timer(self._drain_timeout, self._give_up)
        timer.daemon = True
        timer.start()

    def _give_up(self) -> None:
        log.error("drain_timed_out", seconds=self._drain_timeout)
        os._exit(EXIT_DRAIN_TIMED_OUT)
