"""A worker that is killed or stopped between two of its steps.

    FAULT=point:n:signal python -m tests.faults.faulty_worker

At the n-th passing of the point it sends itself the signal (KILL or STOP). The points are laid around the worker's own
methods, from outside: what is shipped holds none, and costs nothing.

read       a batch was fetched, nothing is done yet
half-sent  half of the script's call is on its way to Redis
sent       all of it is, and no answer was read
answered   Redis has applied the batch
published  the counts are with Kafka
committed  the offset is mirrored
dropped    the batch is lost by the client, as a fault in it would; no signal is sent
untold     no leader tells where the logs begin, before the n-th question; no signal is sent
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from redis.connection import Connection

from audience_core.errors import KafkaUnavailable
from audience_core.kafka.admin import TopicAdmin
from audience_core.redis import scripts
from audience_core.redis.shard_store import ShardStore
from membership_worker import main
from membership_worker.publishing import Publishing
from membership_worker.shards import Shards
from membership_worker.worker import Worker

POINTS = ("read", "half-sent", "sent", "answered", "published", "committed")


class Point:
    """Counts how often it is passed."""

    def __init__(self, nth: int, number: signal.Signals) -> None:
        self._left = nth
        self._signal = number

    def is_due(self) -> bool:
        """Count one passing, and tell whether it is the one."""
        self._left -= 1
        return self._left == 0

    def passed(self) -> None:
        """Send the signal when it is time."""
        if self.is_due():
            os.kill(os.getpid(), self._signal)


def lay(name: str, point: Point) -> None:
    """Wrap what stands before the point."""
    if name == "read":
        _after(Worker, "_fetch", point, when=bool)
    elif name in {"half-sent", "sent"}:
        _around_the_call(point, half=name == "half-sent")
    elif name == "answered":
        _after(ShardStore, "receive", point)
    elif name == "published":
        _after(Publishing, "publish", point, first=lambda publishing: publishing._producer._producer.flush(5))  # noqa: SLF001
    elif name == "dropped":
        _drop(point)
    elif name == "untold":
        _withhold(point)
    elif name == "committed":
        _after(Shards, "commit", point, first=lambda _: time.sleep(0.2))  # it is sent by another thread
    else:
        raise LookupError(name)


def _after(
    kind: type,
    method: str,
    point: Point,
    *,
    when: Callable[[Any], bool] = lambda _: True,
    first: Callable[[Any], Any] = lambda _: None,
) -> None:
    original = getattr(kind, method)

    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        result = original(self, *arguments, **options)
        if when(result):
            first(self)
            point.passed()
        return result

    setattr(kind, method, wrapped)


def _drop(point: Point) -> None:
    original: Any = Worker._fetch  # noqa: SLF001

    def wrapped(self: Worker, timeout: float) -> Any:
        batches = original(self, timeout)
        return {} if batches and point.is_due() else batches

    Worker._fetch = wrapped  # type: ignore[method-assign]  # noqa: SLF001


def _withhold(point: Point) -> None:
    original, told = TopicAdmin.starts, False

    def wrapped(self: TopicAdmin, topic: str, partitions: list[int]) -> dict[int, int]:
        nonlocal told
        told = told or point.is_due()
        if not told:
            raise KafkaUnavailable("nobody tells")
        return original(self, topic, partitions)

    TopicAdmin.starts = wrapped  # type: ignore[method-assign]


def _around_the_call(point: Point, *, half: bool) -> None:
    original: Any = Connection.send_packed_command
    call = scripts.digest("apply").encode()

    def wrapped(self: Any, command: Any, check_health: bool = True) -> None:
        blocks = [command] if isinstance(command, bytes) else list(command)
        joined = b"".join(blocks)
        if call not in joined:
            original(self, command, check_health)
            return
        if half:
            self._sock.sendall(joined[: len(joined) // 2])
            point.passed()
            self._sock.sendall(joined[len(joined) // 2 :])
        else:
            original(self, [joined], check_health)
            point.passed()

    Connection.send_packed_command = wrapped  # type: ignore[method-assign]


if __name__ == "__main__":
    named, nth, number = os.environ["FAULT"].split(":")
    lay(named, Point(int(nth), signal.Signals[f"SIG{number}"]))
    sys.exit(main.run())
