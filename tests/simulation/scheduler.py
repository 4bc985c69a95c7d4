"""Runs simulated processes one step at a time, in an order that a seed decides.

A process is the services' own code in a greenlet. It comes to a step wherever it would speak to Kafka or Redis, and may
be left there for as long as the seed likes, or for ever: that is a crash.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from tests.simulation.clock import Clock

Note = tuple[int, str, tuple[Any, ...]]
"""(step, process, what happened)"""


class Crashed(BaseException):
    """Ends what a process was doing, between two of its steps. Not an Exception: no service may catch it."""


class Process:
    """One simulated process or request."""

    def __init__(self, name: str, run: Callable[[], None], hub: greenlet, skew_s: float) -> None:
        self.name = name
        self.skew_s = skew_s
        self.stalled_until = 0
        self.doomed = False
        self.greenlet = greenlet(run, hub)


class Scheduler:
    """Chooses who takes the next step. Everything random in a run comes out of `random`."""

    def __init__(self, random: Random, clock: Clock) -> None:
        self.random = random
        self.clock = clock
        self.step_number = 0
        self.processes: list[Process] = []
        self.trace: list[Note] = []
        self._hub = getcurrent()
        self._current: Process | None = None
        self._last: Process | None = None
        self._burst = 0

    def spawn(self, name: str, run: Callable[[], None], *, skew_s: float = 0.0) -> Process:
        """Add a process; it begins when it is first chosen."""
        process = Process(name, run, self._hub, skew_s)
        self.processes.append(process)
        return process

    def step(self) -> None:
        """Come to a step of the running process; the call returns when the process is chosen again, if ever."""
        if self._current is None:
            return
        process = self._current
        self._hub.switch()
        if process.doomed:
            process.doomed = False
            raise Crashed

    def rest(self, steps: int) -> None:
        """As step, but stay away for about so many steps of others: nothing is to be done at once."""
        if self._current is not None:
            self._current.stalled_until = self.step_number + self.random.randint(1, 2 * steps)
        self.step()

    @property
    def running(self) -> Process:
        """The process that takes a step now."""
        assert self._current is not None
        return self._current

    def note(self, *what: Any) -> None:
        """Remember an effect for the trace; it is put into words only when somebody reads it."""
        self.trace.append((self.step_number, self._current.name if self._current else "world", what))

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def run_one(self) -> None:
        """Let somebody take a step. The same process goes on for a while, as real ones do."""
        self.step_number += 1
        process = self._chosen()
        if process is None:
            return
        self._current = process
        self.clock.skew_s = process.skew_s
        try:
            process.greenlet.switch()
        finally:
            self._current = None
            self.clock.skew_s = 0.0
        if process.greenlet.dead:
            self.processes.remove(process)

    def _chosen(self) -> Process | None:
        awake = [p for p in self.processes if p.stalled_until <= self.step_number]
        if not awake:
            return None
        last = self._last if self._burst > 0 else None
        if last is None or last not in awake:
            last = self._last = self.random.choice(awake)
            self._burst = int(self.random.expovariate(0.25))
        self._burst -= 1
        return last

    def kill(self, process: Process) -> None:
        """End a process where it stands."""
        if process in self.processes:
            self.processes.remove(process)
        process.greenlet.throw(GreenletExit)

    def close(self) -> None:
        for process in list(self.processes):
            self.kill(process)


def drive(coroutine: Any) -> Any:
    """Run a coroutine whose awaits never suspend: they come to steps instead."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    raise AssertionError("something awaited the event loop, which a simulation has not")
