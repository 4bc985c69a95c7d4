"""The drill: a worker hangs under load, with the true rules and routes, and what people would hear of it.

A system at work, a real Prometheus with `deploy/prometheus/rules`, a real Alertmanager with the routes of
`deploy/alertmanager`, and a webhook in place of the pager. The worker is stopped (SIGSTOP): no scrape reaches it and
its lag grows. It goes on once the night shift has heard of the lag; the drill ends when they have heard that all is
well. About four minutes: `make alert-drill`.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.deploy.monitoring import Prometheus, Webhook, alertmanager, prometheus, rule_files
from tests.pipeline.running import Stack
from tests.pipeline.starting import started

LAG, GONE, WATCHDOG = "AudienceLagSteep", "AudienceJobGone", "AudienceWatchdog"
OF_WORKERS = (LAG, GONE, "AudienceLagLong", "AudienceShardStuck", "AudienceShardUnowned", "AudienceInstanceDown")
SCRAPE = "5s"
LAG_EVERY_S = 20.0
# the lag must pass 60 s, and stay there for 1 min; then Prometheus, Alertmanager and the group's wait of 10 s
FIRES_WITHIN_S = 60 + 60 + 60
CLEARS_WITHIN_S = 150


class Drill:
    """Tells what happens, with the seconds since the worker was stopped."""

    def __init__(self, stack: Stack, server: Prometheus, pager: Webhook) -> None:
        self._stack = stack
        self._server = server
        self._pager = pager
        self._zero = time.monotonic()
        self._told = 0
        self._measured = 0.0
        self._states: dict[str, set[str]] = {}

    def run(self) -> None:
        """The whole drill. Raises AssertionError when somebody hears too late, or not at all."""
        self._await("the dead man's switch hears the watchdog", 60, lambda: self._heard("/alive", "firing", WATCHDOG))
        assert not any(self._heard("/night", "firing", alert) for alert in OF_WORKERS), "called while all is well"
        worker = self._stack.service_pid("worker")
        os.kill(worker, signal.SIGSTOP)
        try:
            self._zero = time.monotonic()
            self.say("the worker is stopped; changes keep coming")
            self._await(f"{LAG} is pending", 120, lambda: "pending" in self._states.get(LAG, set()))
            self._await(
                "the night shift is called: the service is gone", 120, lambda: self._heard("/night", "firing", GONE)
            )
            self._await(
                "the night shift is called: a shard is behind",
                FIRES_WITHIN_S - (time.monotonic() - self._zero),
                lambda: self._heard("/night", "firing", LAG),
            )
        finally:
            os.kill(worker, signal.SIGCONT)
        self.say("the worker goes on")
        self._await("Prometheus: no alert on workers or shards fires any more", 60, self._quiet)
        for alert in (GONE, LAG):
            heard = partial(self._heard, "/night", "resolved", alert)
            self._await(f"the night shift hears that {alert} is over", CLEARS_WITHIN_S, heard)

    def say(self, text: str) -> None:
        """One line of the transcript."""
        print(f"{time.monotonic() - self._zero:7.1f} s  {text}", flush=True)  # noqa: T201 - the transcript

    def _quiet(self) -> bool:
        # a machine that is busy with other things may slow the gateway too; that is not what is drilled
        return not any("firing" in self._states.get(name, set()) for name in OF_WORKERS)

    def _heard(self, path: str, status: str, alert: str | None = None) -> bool:
        return any(
            (path, status) == (heard[1], heard[2]) and alert in {None, heard[3]["labels"]["alertname"]}
            for heard in self._pager.heard
        )

    def _await(self, what: str, within: float, happened: Callable[[], bool]) -> None:
        until = time.monotonic() + within
        while not happened():
            assert time.monotonic() < until, f"not within {within:.0f} s: {what}"
            self._watch()
            time.sleep(0.5)
        self.say(f"✓ {what}")

    def _watch(self) -> None:
        states = self._server.alerts()
        for name in sorted(states.keys() | self._states.keys()):
            before, now = self._states.get(name, set()), states.get(name, set())
            if before != now:
                self.say(f"  prometheus   {name}: {' and '.join(sorted(now)) or 'over'}")
        self._states = states
        for _, path, status, alert in self._pager.heard[self._told :]:
            if path != "/alive":
                self.say(
                    f"  pager {path:6} {status}: {alert['labels']['alertname']}: {alert['annotations']['description']}"
                )
        self._told = len(self._pager.heard)
        if time.monotonic() > self._measured + LAG_EVERY_S:
            self._measured = time.monotonic()
            lag, behind = (self._now(f"max(audience_shard_lag_{unit})") for unit in ("seconds", "records"))
            self.say(f"  lag          oldest unapplied change {lag:.0f} s, most in a shard {behind:.0f} records")

    def _now(self, query: str) -> float:
        answer = self._server.query_range(query, time.time(), time.time(), 1)
        return float(answer[0]["values"][0][1]) if answer else float("nan")


def _load(stack: Stack, stop: threading.Event) -> None:
    assert stack.subscribe(9001).status_code == 200
    number = 0
    while not stop.wait(0.1):
        number += 1
        stack.change(f"drill-{number}", 9001, "add")


def main() -> int:
    """Run the drill; 0 when everybody heard in time."""
    argparse.ArgumentParser(description=__doc__, epilog="example: make alert-drill").parse_args()
    with tempfile.TemporaryDirectory(prefix="alert-drill-") as name, Webhook() as pager:
        folder = Path(name)
        (folder / "stack").mkdir()
        with (
            started(folder / "stack") as stack,
            alertmanager(folder / "alertmanager", pager.url) as address,
            prometheus(
                folder / "prometheus",
                {f"audience-{service}": url for service, url in stack.ready["metrics_urls"].items()},
                scrape=SCRAPE,
                rules=rule_files(),
                alertmanager=address,
            ) as server,
        ):
            stop = threading.Event()
            load = threading.Thread(target=_load, args=(stack, stop))
            load.start()
            try:
                Drill(stack, server, pager).run()
            except AssertionError as error:
                print(f"the drill failed: {error}", file=sys.stderr)  # noqa: T201 - its output
                return 1
            finally:
                stop.set()
                load.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
