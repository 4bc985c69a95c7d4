"""A member of the workers' group on a real Kafka, of which is known what its rebalances called."""

import contextlib
import math
import time
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, TopicPartition

from audience_core.kafka.admin import TopicAdmin
from audience_core.settings import load
from membership_worker import consumer
from membership_worker.progress import Progress
from membership_worker.settings import WorkerSettings
from membership_worker.shards import Shards

ALL = frozenset(range(8))
GIVEN, REVOKED = ("on_assign", ALL), ("on_revoke", ALL)
CLOSING = ("close", frozenset[int]())
JOIN_S = 20


class Member(Consumer):
    """A consumer that notes which callback was called with which shards, and when it began to close."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.called: list[tuple[str, frozenset[int]]] = []

    def subscribe(self, *topics: Any, **callbacks: Any) -> None:
        noting: dict[str, Any] = {name: self._noting(name, callback) for name, callback in callbacks.items()}
        super().subscribe(*topics, **noting)

    def close(self) -> None:
        self.called.append(CLOSING)
        super().close()

    def _noting(self, name: str, callback: Callable[..., None]) -> Callable[..., None]:
        def noting(_: Consumer, partitions: list[TopicPartition]) -> None:
            self.called.append((name, frozenset(partition.partition for partition in partitions)))
            callback(self, partitions)

        return noting

    def wait_for_shards(self) -> None:
        """Poll until the group has given it all."""
        until = time.monotonic() + JOIN_S
        while GIVEN not in self.called:
            assert time.monotonic() < until, self.called
            self.poll(0.1)


@contextlib.contextmanager
def subscribed(
    monkeypatch: pytest.MonkeyPatch, kafka: str, protocol: str = "classic"
) -> Iterator[tuple[Member, Shards, WorkerSettings]]:
    """The only member of a group of its own, with what the worker makes of its shards; they begin at offset 0."""
    monkeypatch.setenv("AUDIENCE_KAFKA_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("AUDIENCE_KAFKA_REPLICATION", "1")
    monkeypatch.setenv("AUDIENCE_KAFKA_GROUP_PROTOCOL", protocol)
    monkeypatch.setenv("AUDIENCE_KAFKA_SESSION_TIMEOUT", "6s")
    monkeypatch.setenv("AUDIENCE_SHARDS", str(len(ALL)))
    monkeypatch.setenv("AUDIENCE_WORKER_GROUP", f"leaving-{uuid.uuid4().hex}")
    monkeypatch.setattr(consumer, "Consumer", Member)
    settings = load(WorkerSettings)
    TopicAdmin(settings).create_missing()
    member = consumer.make_consumer(settings)
    assert isinstance(member, Member)
    shards = Shards(
        member,
        cast(Any, SimpleNamespace(locate=lambda _: None)),
        "topic-1",
        starts=lambda numbers: dict.fromkeys(numbers, 0),
        progress=Progress(math.inf, lambda numbers: dict.fromkeys(numbers, 0)),
        accept_partial=True,
        watch=cast(Any, SimpleNamespace(ask=lambda: None, check=lambda: None)),
    )
    try:
        shards.subscribe()
        yield member, shards, settings
    finally:
        with contextlib.suppress(RuntimeError):  # the case has closed it
            member.poll(0)  # closing with an assignment not told yet may hang
        member.close()
