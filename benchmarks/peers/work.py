"""What every peer does with the records, and how it is measured: the same, so that only the frameworks differ."""

import sys
import time
from typing import Any

from audience_core.codec import Codec

BATCH = 1000
"""Records that a peer takes at a time, where it offers that"""
SESSION_TIMEOUT_MS = 6000
_CODEC = Codec()


def decode(value: bytes | None) -> Any:
    """A membership change out of its Avro."""
    return _CODEC.decode(value)[1]


def add_to(pipe: Any, record: Any) -> None:
    """Put a record's changes on a pipeline: SADD or SREM, without guard, fence or count."""
    key = f"m:{record['account']}:{record['mpid']}"
    for change in record["changes"]:
        (pipe.sadd if change["action"] == "ENTER" else pipe.srem)(key, change["audience_id"])


class Meter:
    """Records a second by the clock and by this process's processor time, from the first that is seen to the last that
    is in Redis; joining the group is not counted."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._done, self._started, self._busy = 0, 0.0, 0.0

    def begin(self) -> None:
        """A record is there; only the first counts."""
        if not self._started:
            self._started, self._busy = time.perf_counter(), time.process_time()

    def did(self, records: int) -> bool:
        """So many more are in Redis. Prints the two figures and returns True once all are."""
        self._done += records
        if self._done < self._count:
            return False
        rates = self._done / (time.perf_counter() - self._started), self._done / (time.process_time() - self._busy)
        sys.stdout.write("{} {}\n".format(*rates))
        sys.stdout.flush()
        return True
