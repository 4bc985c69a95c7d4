"""Simulated time: it moves when somebody waits, and only then."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import audience_core.redis.silence
import audience_indexer.history
import audience_indexer.indexer
import audience_indexer.last_states
import audience_indexer.listing
import ingest_gateway.answers
import ingest_gateway.app
import ingest_gateway.erasure
import membership_worker.decode
import membership_worker.patience
import membership_worker.publishing
import membership_worker.receipts
import membership_worker.worker

START_S = 1_700_000_000.0
_MODULES = (
    audience_core.redis.silence,
    audience_indexer.history,
    audience_indexer.indexer,
    audience_indexer.last_states,
    audience_indexer.listing,
    ingest_gateway.answers,
    ingest_gateway.app,
    ingest_gateway.erasure,
    membership_worker.decode,
    membership_worker.patience,
    membership_worker.publishing,
    membership_worker.receipts,
    membership_worker.worker,
)


class Clock:
    """Stands where the services expect the module `time`. `skew_s` is the error of the clock of whoever runs now."""

    def __init__(self) -> None:
        self.now_s = START_S
        self.skew_s = 0.0

    def time(self) -> float:
        return self.now_s + self.skew_s

    def time_ns(self) -> int:
        return int((self.now_s + self.skew_s) * 1000) * 1_000_000

    def monotonic(self) -> float:
        return self.now_s

    perf_counter = monotonic

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let every service read this clock."""
        with ExitStack() as patches:
            for module in _MODULES:
                patches.enter_context(patch.object(module, "time", self))
            yield
