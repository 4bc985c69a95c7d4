"""A process that was told to stop ends, whatever hangs in it."""

import signal
import subprocess
import sys

from audience_core.observability.stopping import EXIT_DRAIN_TIMED_OUT

PROGRAM = """
import ctypes, time
from audience_core.observability.stopping import Stop

stop = Stop(0.5)
stop.listen()
print("listening", flush=True)
while not stop():
    time.sleep(0.01)
{then}
"""
HANGS = "time.sleep(60)"
HANGS_WITH_THE_LOCK = "ctypes.PyDLL(None).sleep(60)"  # of the interpreter, so none of its threads can run
GOES_ON = "time.sleep(0.2)"


def told_to_stop(then: str) -> tuple[int, str]:
    """Exit code and standard error."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(then=then)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        try:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
        return process.returncode, errors


def test_a_stop_in_time_ends_with_0() -> None:
    assert told_to_stop(GOES_ON) == (0, "")


def test_a_drain_that_hangs_ends_with_a_code_of_its_own() -> None:
    code, _ = told_to_stop(HANGS)
    assert code == EXIT_DRAIN_TIMED_OUT


def test_a_call_that_never_returns_the_interpreters_lock_cannot_keep_the_process() -> None:
    code, errors = told_to_stop(HANGS_WITH_THE_LOCK)
    assert code == 1
    assert "most recent call first" in errors
    assert 'File "<string>", line 10 in <module>' in errors
