"""A steady load on the changes topic, and how long each change takes until the read side could show it."""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from audience_core.domain.partitioning import shard_of, visitor_key
from audience_core.domain.records import MembershipChange
from audience_core.kafka.producer import Outgoing, RecordProducer
from audience_core.redis import keys
from audience_core.registry import make_codec
from audience_core.settings import CoreSettings
from audience_core.topics import CHANGES

ACCOUNT = "termination"
AUDIENCE = 7
_EVERY_S = 0.02


class Load:
    """Publishes one new visitor's enter every few milliseconds, and watches Redis until it is there."""

    def __init__(self, settings: CoreSettings, rate: int) -> None:
        self._settings = settings
        self._batch = max(1, round(rate * _EVERY_S))
        self._codec = make_codec(settings)
        self._unseen: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._all_published = threading.Event()
        self._longest = 0.0
        self.published = 0
        self.seen = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Publish inside of the block; after it, watching goes on until all is seen or 60 s are over."""
        watching = threading.Thread(target=self._watch)
        publishing = threading.Thread(target=self._publish)
        publishing.start()
        watching.start()
        try:
            yield
        finally:
            self._stopping.set()
            publishing.join()
            self._all_published.set()
            watching.join()

    def longest(self) -> float:
        """Longest time in seconds from a change's acknowledgement to its place in Redis since the last call.

        Those that are not there yet count with their age.
        """
        now = time.monotonic()
        with self._lock:
            waiting = max((now - since for since in self._unseen.values()), default=0.0)
            longest, self._longest = max(self._longest, waiting), 0.0
        return longest

    def _publish(self) -> None:
        producer = RecordProducer(self._settings, "load")
        while not self._stopping.is_set():
            started = time.monotonic()
            visitors = [uuid.uuid4().hex for _ in range(self._batch)]
            producer.send_and_wait([self._record(visitor) for visitor in visitors], 10)
            acknowledged = time.monotonic()
            with self._lock:
                self._unseen |= dict.fromkeys(map(self._key, visitors), acknowledged)
                self.published += len(visitors)
            self._stopping.wait(max(0.0, started + _EVERY_S - time.monotonic()))
        producer.close()

    def _watch(self) -> None:
        until = float("inf")
        with redis.Redis.from_url(self._settings.redis_url.get_secret_value()) as client:
            while time.monotonic() < until and (self._unseen or not self._all_published.is_set()):
                if self._all_published.is_set():
                    until = min(until, time.monotonic() + 60)
                with self._lock:
                    asked = list(self._unseen)
                pipe = client.pipeline(transaction=False)
                for key in asked:
                    pipe.exists(key)
                there = [key for key, exists in zip(asked, pipe.execute(), strict=True) if exists]
                now = time.monotonic()
                with self._lock:
                    for key in there:
                        self._longest = max(self._longest, now - self._unseen.pop(key))
                    self.seen += len(there)
                time.sleep(0.01)

    def _shard(self, visitor: str) -> int:
        return shard_of(visitor_key(ACCOUNT, visitor), self._settings.shards)

    def _key(self, visitor: str) -> str:
        return keys.of_visitor(self._shard(visitor), ACCOUNT, visitor).members

    def _record(self, visitor: str) -> Outgoing:
        now = time.time_ns() // 1_000_000
        change = MembershipChange(
            account=ACCOUNT,
            mpid=visitor,
            occurred_at=now,
            received_at=now,
            request_id=str(uuid.uuid4()),
            identities=[],
            changes=[{"audience_id": AUDIENCE, "epoch": 0, "action": "ENTER"}],
        )
        value = self._codec.encode("MembershipChange", change)
        return Outgoing(CHANGES, self._shard(visitor), visitor_key(ACCOUNT, visitor), value)
