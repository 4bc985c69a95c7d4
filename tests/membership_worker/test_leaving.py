"""A worker that left its group has no callback left when it closes: what one asks there may never be answered."""

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

SHARDS = 8
JOIN_S = 20


class Member(Consumer):
    """A member that notes which callback of a rebalance was called with which shards."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.called: list[tuple[str, set[int]]] = []

    def subscribe(self, *topics: Any, **callbacks: Any) -> None:
        noting: dict[str, Any] = {name: self._noting(name, callback) for name, callback in callbacks.items()}
        super().subscribe(*topics, **noting)

    def _noting(self, name: str, callback: Callable[..., None]) -> Callable[..., None]:
        def noting(_: Consumer, partitions: list[TopicPartition]) -> None:
            self.called.append((name, {partition.partition for partition in partitions}))
            callback(self, partitions)

        return noting


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch, kafka_server: str) -> Iterator[Member]:
    monkeypatch.setenv("AUDIENCE_KAFKA_BOOTSTRAP_SERVERS", kafka_server)
    monkeypatch.setenv("AUDIENCE_KAFKA_REPLICATION", "1")
    monkeypatch.setenv("AUDIENCE_SHARDS", str(SHARDS))
    monkeypatch.setenv("AUDIENCE_KAFKA_SESSION_TIMEOUT", "2s")
    monkeypatch.setenv("AUDIENCE_WORKER_GROUP", f"leaving-{uuid.uuid4().hex}")
    monkeypatch.setattr(consumer, "Consumer", Member)
    settings = load(WorkerSettings)
    TopicAdmin(settings).create_missing()
    made = consumer.make_consumer(settings)
    assert isinstance(made, Member)
    yield made
    with contextlib.suppress(RuntimeError):  # the case has closed it
        made.close()


@pytest.fixture
def shards(member: Member) -> Shards:
    """What the worker owns, once the group has given it all."""
    shards = Shards(
        member,
        cast(Any, SimpleNamespace(locate=lambda _: None)),
        "topic-1",
        starts=lambda numbers: dict.fromkeys(numbers, 0),
        progress=Progress(math.inf, lambda numbers: dict.fromkeys(numbers, 0)),
        accept_partial=True,
        watch=cast(Any, SimpleNamespace(ask=lambda: None, check=lambda: None)),
    )
    shards.subscribe()
    until = time.monotonic() + JOIN_S
    while ("on_assign", set(range(SHARDS))) not in member.called:
        assert time.monotonic() < until, member.called
        member.poll(0.1)
    return shards


@pytest.mark.parametrize("taken", [False, True])
def test_all_shards_are_given_back_before_the_consumer_closes(member: Member, shards: Shards, taken: bool) -> None:
    if taken:
        shards.take_waiting()
    shards.leave()
    assert member.called[-1] == ("on_revoke", set(range(SHARDS)))
    assert not shards.taken
    called = len(member.called)
    member.close()
    assert len(member.called) == called, member.called


def test_leaving_a_group_that_is_not_joined_is_no_error(member: Member, shards: Shards) -> None:
    shards.leave()
    shards.leave()
    member.close()
