"""Several processes behind the gateway's port: a parent that starts, watches and stops them, and serves nothing itself.

Each child listens on a socket of its own (SO_REUSEPORT), because the kernel spreads connections evenly over those; from
one socket that they share, whoever wakes first takes nearly all of them (docs/adr/0013). Linux only.
"""

import ctypes
import os
import secrets
import signal
import socket
import sys
import time
from dataclasses import dataclass, field

from audience_core.garbage import spare_the_collector
from audience_core.observability.logging import get_logger

BACKLOG = 2048
REFUSED = 4
"""Exit code of a child that may not serve, nor may any other"""
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_HEALTHY_S = 60.0
"""Whoever lived this long begins with the first pause again."""
_LOOK_EVERY_S = 0.02
_PR_SET_PDEATHSIG = 1

log = get_logger()


@dataclass
class Part:
    """A child's part of the gateway."""

    index: int
    count: int
    gateway: str
    """name of the whole, the same in all its processes and in no other gateway"""
    listener: socket.socket
    """bound; it listens once it is served"""
    _report: int

    def serves(self) -> None:
        """Tell the parent that this process has all that it needs."""
        os.write(self._report, b"1")
        os.close(self._report)


@dataclass
class _Slot:
    index: int
    pid: int = 0
    """0: it does not run, and is to be started at `due`"""
    due: float = 0.0
    started: float = 0.0
    pause: float = field(default=_FIRST_PAUSE_S)
    report: int = -1
    has_served: bool = False
    """whether it ever did, in this process or one before"""

    def look(self) -> None:
        """Take the child's report, if there is one."""
        if self.report >= 0 and not self.has_served:
            try:
                self.has_served = os.read(self.report, 1) == b"1"
            except BlockingIOError:
                return

    def ended(self) -> None:
        """Its process is gone; the next one is due after a pause that doubles each time."""
        self.look()
        os.close(self.report)
        self.pid, self.report = 0, -1
        now = time.monotonic()
        if now - self.started > _HEALTHY_S:
            self.pause = _FIRST_PAUSE_S
        self.due = now + self.pause
        self.pause = min(2 * self.pause, _LONGEST_PAUSE_S)


def reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps the port and never listens. Raises OSError when somebody else has it."""
    reserved = socket.socket()
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((host, port))
        # only now: two gateways that set it before would both get the port
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        reserved.close()
        raise
    return reserved


class Processes:
    """The parent."""

    def __init__(self, port: socket.socket, count: int) -> None:
        """`port` is reserved."""
        self._port = port
        self._slots = [_Slot(index) for index in range(count)]
        self._name = secrets.token_hex(8)
        self._stopping = False
        self._code = 0

    def run(self) -> Part | int:
        """Start all processes and keep them running until SIGTERM or SIGINT.

        Returns as `fork` does: in each child its part; in the parent, once all have ended, the exit code. A child that
        ends by itself before it ever served ends them all with its code, and one that is REFUSED ends them all with 1.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        spare_the_collector()  # before the forks: what it has looked at is not shared any more
        while True:
            self._reap()
            if self._stopping and not any(slot.pid for slot in self._slots):
                return self._code
            for slot in self._to_start():
                part = self._start(slot)
                if part is not None:
                    return part
            heard = signal.sigtimedwait(_SIGNALS, self._patience())
            if heard is not None and heard.si_signo != signal.SIGCHLD:
                self._stop()

    def _to_start(self) -> list[_Slot]:
        if self._stopping:
            return []
        first = self._slots[0]
        first.look()
        # the others once the first serves: what keeps all of them from it is said once
        slots = self._slots if first.has_served else [first]
        return [slot for slot in slots if slot.pid == 0 and slot.due <= time.monotonic()]

    def _patience(self) -> float:
        if not self._slots[0].has_served and not self._stopping:
            return _LOOK_EVERY_S
        dues = [slot.due for slot in self._slots if slot.pid == 0 and not self._stopping]
        return max(0.0, min(dues, default=time.monotonic() + 3600) - time.monotonic())

    def _start(self, slot: _Slot) -> Part | None:
        """Fork; returns the part in the child."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(self._port.getsockname())
        if not slot.has_served and slot.index == 0:
            # at once, so that a second gateway finds the port taken; later ones when they can answer
            listener.listen(BACKLOG)
        slot.report, report = os.pipe()
        os.set_blocking(slot.report, False)
        sys.stdout.flush()
        parent, slot.started = os.getpid(), time.monotonic()
        slot.pid = os.fork()
        if slot.pid:
            listener.close()
            os.close(report)
            return None
        _die_with(parent)
        self._port.close()
        for other in self._slots:
            if other.report >= 0:
                os.close(other.report)
        # SIGINT stays blocked: a terminal sends it to the children too, but it is the parent who stops them, once
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS - {signal.SIGINT})
        return Part(slot.index, len(self._slots), self._name, listener, report)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            # as process 1 of a container the parent inherits others' children too
            for slot in self._slots:
                if slot.pid == pid:
                    self._ended(slot, os.waitstatus_to_exitcode(status))

    def _ended(self, slot: _Slot, code: int) -> None:
        slot.ended()
        if self._stopping:
            self._code = self._code or (1 if code == REFUSED else code if code >= 0 else 128 - code)
        elif code == REFUSED:
            self._code = 1
            self._stop()
        elif code > 0 and not slot.has_served:
            log.error("child_not_started", process=slot.index, code=code)
            self._code = code
            self._stop()
        else:
            pause = slot.due - time.monotonic()
            log.error("child_ended", process=slot.index, code=code, started_again_in_s=round(pause, 1))

    def _stop(self) -> None:
        self._stopping = True
        for slot in self._slots:
            if slot.pid:
                os.kill(slot.pid, signal.SIGTERM)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies: two generations must not share a port."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the kernel knew
        os.kill(os.getpid(), signal.SIGKILL)
