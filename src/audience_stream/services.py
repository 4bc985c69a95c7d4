"""Runs the four services as processes of their own, and starts one again when it dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from audience_core.errors import PermanentError

_BACK_OFF_S = 0.3
_DRAIN_S = 10.0
_READY_S = 60.0
_WRONG_SETTINGS = 2  # the code with which a command ends that can't run with its settings


@dataclass
class Service:
    """A service: its name is the last word of its command line."""

    name: str
    url: str
    environment: dict[str, str]
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start the process. Its log goes to our own standard error."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "audience_stream", self.name],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def is_ready(self) -> bool:
        """Whether `/readyz` answers 200."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


class Supervisor:
    """Keeps services running until it is stopped."""

    def __init__(self, services: list[Service], say: Callable[[str], None]) -> None:
        self._services = services
        self._say = say
        self._stopping = threading.Event()
        self._refused: str | None = None
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self, stop: threading.Event) -> bool:
        """Start every service and wait until all are ready; False when `stop` was set first. Raises PermanentError."""
        for service in self._services:
            service.start()
        self._thread.start()
        return all(self._became_ready(service, stop) for service in self._services)

    def _became_ready(self, service: Service, stop: threading.Event) -> bool:
        until = time.monotonic() + _READY_S
        while not stop.wait(0.05):
            if service.is_ready():
                return True
            if self._refused:
                raise PermanentError(f"the {self._refused} can't run with these settings; its own line above says why")
            if time.monotonic() > until:
                raise PermanentError(f"the {service.name} was not ready within {_READY_S:g} s")
        return False

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL to those that have not drained in time."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        processes = [service.process for service in self._services if service.process is not None]
        for process in processes:
            process.send_signal(signal.SIGTERM)
        until = time.monotonic() + _DRAIN_S
        for process in processes:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _watch(self) -> None:
        while not self._stopping.wait(_BACK_OFF_S):
            for service in self._services:
                code = service.process.poll() if service.process else None
                if code == _WRONG_SETTINGS:
                    self._refused = service.name  # during start-up that is the end: another try would say the same
                if code is not None and not self._stopping.is_set():
                    self._say(f"the {service.name} ended with code {code}; starting it again")
                    service.start()
