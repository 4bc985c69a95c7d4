"""One file of the spool: records in order, in SQLite, durable when `write` returns. Locked by one process."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from audience_core.errors import PermanentError, SpoolUnavailable
from audience_core.kafka.producer import Outgoing
from audience_core.observability.logging import get_logger

MAX_FILES = 256
_WINDOW_BYTES = 4_000_000
_ROWS = 5000  # SQLite takes 32,766 values in one statement
_ROW_BYTES = 32  # what SQLite adds to a record, about
# EXCLUSIVE: the lock file keeps others out, so SQLite needs no shared memory. FULL: the log is synced at every commit,
# so what is acknowledged survives a power loss. secure_delete: a drained MPID is gone from the disk too.
_SETUP = (
    "PRAGMA locking_mode=EXCLUSIVE",
    "PRAGMA auto_vacuum=INCREMENTAL",
    "PRAGMA secure_delete=ON",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    """CREATE TABLE IF NOT EXISTS records (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        topic TEXT NOT NULL, partition INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL
    )""",
)

log = get_logger()


def size_of(records: Sequence[Outgoing]) -> int:
    """Bytes that these records take in a file, about."""
    return sum(len(r.topic) + len(r.key) + len(r.value) + _ROW_BYTES for r in records)


class SpoolFile:
    """Used by one thread at a time. `records` and `bytes` are what it held when it was opened."""

    def __init__(self, path: Path, lock: int) -> None:
        self._path = path
        self._lock = lock
        self._connection = self._open()
        counted = self._connection.execute(
            "SELECT COUNT(*), COALESCE(SUM(LENGTH(topic) + LENGTH(key) + LENGTH(value) + ?), 0) FROM records",
            [_ROW_BYTES],
        )
        self.records, self.bytes = (int(number) for number in counted.fetchone())

    def write(self, records: Sequence[Outgoing], drop_to: int = 0) -> None:
        """Append records and drop those up to an id: all of it or nothing. Raises SpoolUnavailable."""
        # few calls: each gives up the interpreter's lock, and gets it back from a busy event loop only after a while
        try:
            if drop_to or len(records) > _ROWS:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.execute("DELETE FROM records WHERE id <= ?", [drop_to])
                for first in range(0, len(records), _ROWS):
                    self._insert(records[first : first + _ROWS])
                self._connection.execute("COMMIT")
            elif records:
                self._insert(records)
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:  # SQLite has rolled back by itself after most of these
                    self._connection.execute("ROLLBACK")
            raise SpoolUnavailable(f"the spool can't be written: {error}") from error

    def _insert(self, records: Sequence[Outgoing]) -> None:
        rows = ", ".join(["(?, ?, ?, ?)"] * len(records))
        # a record that waits here leaves its trace: the trace ends with what the request came to
        values = [value for record in records for value in record[:4]]
        self._connection.execute(f"INSERT INTO records(topic, partition, key, value) VALUES {rows}", values)  # noqa: S608

    def read(self, after: int, limit: int) -> list[tuple[int, Outgoing]]:
        """(id, record) of the oldest records after an id, up to `limit` and about 4 MB. Raises SpoolUnavailable."""
        found: list[tuple[int, Outgoing]] = []
        size = 0
        try:
            rows = self._connection.execute(
                "SELECT id, topic, partition, key, value FROM records WHERE id > ? ORDER BY id LIMIT ?", [after, limit]
            )
            for number, topic, partition, key, value in rows:
                found.append((number, Outgoing(topic, partition, key, value)))
                size += len(value)
                if size > _WINDOW_BYTES:
                    break
        except sqlite3.Error as error:
            raise SpoolUnavailable(f"the spool can't be read: {error}") from error
        return found

    def shrink(self) -> None:
        """Give the room of dropped records back to the disk."""
        with contextlib.suppress(sqlite3.Error):  # it is tried again after the next drain
            # a script, because `execute` would step once, and each step frees one page
            self._connection.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);")

    def close(self, *, remove: bool = False) -> None:
        """Close, and unlock. `remove` deletes the file, which must be empty; its lock file stays, as others may
        hold it open."""
        self._connection.close()
        if remove:
            self._path.unlink(missing_ok=True)
        os.close(self._lock)

    def _open(self) -> sqlite3.Connection:
        try:
            return _connect(self._path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            broken = self._path.with_suffix(f".broken-{os.getpid()}")
            self._path.rename(broken)
            log.error("spool_set_aside", file=broken.name, error=str(error))
            return _connect(self._path)


def claim(folder: Path) -> SpoolFile:
    """Open the first file of the folder that no other process holds; a new one when all are held.

    Raises PermanentError when the folder can't be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for number in range(MAX_FILES):
            file = _try_open(folder / f"spool-{number}.db")
            if file is not None:
                return file
    except (OSError, sqlite3.Error) as error:
        raise PermanentError(f"AUDIENCE_SPOOL_DIR {folder} can't be used: {error}") from error
    raise PermanentError(f"AUDIENCE_SPOOL_DIR {folder}: {MAX_FILES} processes use it already; give each its own folder")


def claim_left_behind(folder: Path) -> Iterator[SpoolFile]:
    """Open each file that its process has left behind, so that its records are drained by somebody."""
    for path in sorted(folder.glob("spool-*.db")):
        try:
            file = _try_open(path)
        except (OSError, sqlite3.Error) as error:
            log.error("spool_not_adopted", file=path.name, error=str(error))
            continue
        if file is not None:
            yield file


def _try_open(path: Path) -> SpoolFile | None:
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    try:
        return SpoolFile(path, lock)
    except BaseException:
        os.close(lock)
        raise


def _connect(path: Path) -> sqlite3.Connection:
    # the writer's thread uses it, and nobody else at the same time
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        path.chmod(0o600)
        for statement in _SETUP:
            connection.execute(statement).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection
