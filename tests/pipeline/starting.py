"""Starts a whole system of a test's own, with settings of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.pipeline.running import Stack

_FREE_PORTS = dict.fromkeys(("AUDIENCE_GATEWAY_PORT", "AUDIENCE_API_PORT", "AUDIENCE_METRICS_PORT"), "0")


@contextlib.contextmanager
def started(folder: Path, **settings: str) -> Iterator[Stack]:
    """Run `audience-stream up` until the block ends. Its log and ready file lie in the folder."""
    ready_file, log = folder / "ready.json", folder / "up.log"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUDIENCE_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "audience_stream", "up", "--ready-file", str(ready_file)],
            env={**inherited, **_FREE_PORTS, "AUDIENCE_LOG_LEVEL": "warning", **settings},
            stdout=subprocess.DEVNULL,
            stderr=output,
        )
        try:
            until = time.monotonic() + 60
            while not ready_file.exists():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
            stack = Stack(json.loads(ready_file.read_text()), process, log)
            with stack.http:
                yield stack
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
