"""The spool as the event loop sees it: one thread writes, and commits what came meanwhile at once."""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from audience_core.errors import SpoolUnavailable
from audience_core.kafka.producer import Outgoing
from audience_core.observability.logging import get_logger
from ingest_gateway.spool_file import SpoolFile, size_of

_APPEND_S = 1.0

log = get_logger()
Window = list[tuple[int, Outgoing]]
"""(id, record), oldest first"""


@dataclass
class _Job:
    done: "asyncio.Future[Any]"
    records: Sequence[Outgoing] = ()
    drop_to: int = 0
    read: int = 0
    outcome: Any = field(default=None)


class Spool:
    """Records that wait for Kafka on disk. `records` and `bytes` count what is held, or about to be."""

    def __init__(self, file: SpoolFile, limit: int) -> None:
        self._file = file
        self._limit = limit
        self.records, self.bytes = file.records, file.bytes
        self.refusing = False
        """whether the last append found no room"""
        self._drained_to = 0
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        if self.records:
            self._filled.set()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="spool", daemon=True)
        self._thread.start()

    async def append(self, records: Sequence[Outgoing]) -> None:
        """Return when the records are on disk. Raises SpoolUnavailable when the spool or the disk is full, or too slow:
        then they may be there all the same, and what the sender repeats is a copy."""
        size = size_of(records)
        if self.bytes + size > self._limit:
            self.refusing = True
            raise SpoolUnavailable("Kafka does not answer and the spool is full (AUDIENCE_SPOOL_BYTES)")
        # counted at once: whoever comes next must see that the spool is not empty
        self.records += len(records)
        self.bytes += size
        job = _Job(self._loop.create_future(), records=records)
        job.done.add_done_callback(lambda done: self._appended(done, len(records), size))
        self._jobs.put(job)
        try:
            async with asyncio.timeout(_APPEND_S):
                await asyncio.shield(job.done)
        except TimeoutError:
            raise SpoolUnavailable("the spool's disk did not take a record in time") from None

    def _appended(self, done: "asyncio.Future[Any]", records: int, size: int) -> None:
        self.refusing = done.exception() is not None
        if self.refusing:
            self.records -= records
            self.bytes -= size
        else:
            self._filled.set()

    async def filled(self) -> None:
        """Wait until there is a record."""
        await self._filled.wait()

    async def oldest(self, limit: int) -> Window:
        """The oldest records that are not dropped. Raises SpoolUnavailable."""
        job = _Job(self._loop.create_future(), read=limit)
        self._jobs.put(job)
        window: Window = await job.done
        if not window and self.records == 0:
            self._filled.clear()
        return window

    async def drop(self, window: Window) -> None:
        """Drop a window that was read. A disk that refuses keeps it: it is not read again by this process, and a next
        one publishes it a second time, which changes nothing."""
        records = [record for _, record in window]
        self._drained_to = window[-1][0]
        self.records -= len(records)
        self.bytes -= size_of(records)
        self.refusing = False
        if self.records == 0:
            self._filled.clear()
        job = _Job(self._loop.create_future(), drop_to=self._drained_to)
        self._jobs.put(job)
        await job.done

    async def close(self, *, remove: bool = False) -> None:
        """Stop the thread after what is queued; `remove` deletes the file, which must be empty."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._file.close(remove=remove)

    def _serve(self) -> None:
        stopping = False
        while not stopping:
            jobs = [self._jobs.get()]
            while not self._jobs.empty():  # only this thread takes
                jobs.append(self._jobs.get())
            stopping = None in jobs
            self._work([job for job in jobs if job is not None])

    def _work(self, jobs: list[_Job]) -> None:
        writes = [job for job in jobs if not job.read]
        if writes:
            _attempt(writes, lambda: self._write(writes))
        for job in jobs:
            if job.read:
                _attempt([job], partial(self._file.read, self._drained_to, job.read))
        if jobs:
            self._loop.call_soon_threadsafe(_settle, jobs)

    def _write(self, jobs: list[_Job]) -> None:
        drop_to = max(job.drop_to for job in jobs)
        self._file.write([record for job in jobs for record in job.records], drop_to)
        if drop_to and self.records == 0:
            self._file.shrink()


def _attempt(jobs: list[_Job], action: Callable[[], Any]) -> None:
    try:
        outcome = action()
    except SpoolUnavailable as error:
        outcome = error
    except Exception as error:  # a thread that ended here would leave every later request waiting
        log.exception("spool_failed")
        outcome = SpoolUnavailable(f"the spool failed: {type(error).__name__}")
    for job in jobs:
        job.outcome = outcome


def _settle(jobs: list[_Job]) -> None:
    for job in jobs:
        if isinstance(job.outcome, SpoolUnavailable):
            job.done.set_exception(job.outcome)
        else:
            job.done.set_result(job.outcome)
