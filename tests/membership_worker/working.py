"""A worker on a simulated Kafka and a real Redis."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from audience_core.codec import Codec
from audience_core.domain.records import VisitorErased
from audience_core.kafka.producer import Outgoing
from audience_core.redis.connect import connect
from audience_core.redis.shard_store import ShardStore
from audience_core.topics import CHANGES, ERASURES
from membership_worker.progress import Progress
from membership_worker.settings import WorkerSettings
from membership_worker.shards import Shards
from membership_worker.topic_watch import TopicWatch
from membership_worker.worker import Worker
from tests.simulation.scheduler import Scheduler
from tests.simulation.simulated_kafka import BackgroundProducer, Broker, Group, GroupConsumer

Store = TypeVar("Store", bound=ShardStore)
TOPIC_ID = "topic-1"
PATIENCE_S = 5.0
SETTLED_AFTER_TURNS = 10
CODEC = Codec()
ERASED = VisitorErased(account="demo", mpid="v1", received_at=1, request_id="request-1")


@contextmanager
def open_store(settings: WorkerSettings, kind: type[Store]) -> Iterator[Store]:
    """A store on the Redis of these settings."""
    with connect(settings) as client:
        store = kind(client, settings)
        yield store
        store.close()


def work_until_told(
    settings: WorkerSettings,
    broker: Broker,
    scheduler: Scheduler,
    store: ShardStore,
    consumer: type[GroupConsumer] = GroupConsumer,
) -> None:
    """Run a worker that an erasure reaches, until it has published the receipt or patience ends."""
    member = cast(Any, consumer(broker, Group(scheduler, settings.shards)))
    shards = Shards(
        member,
        store,
        TOPIC_ID,
        starts=broker.starts,
        progress=Progress(math.inf, broker.starts),
        accept_partial=False,
        watch=TopicWatch(cast(Any, SimpleNamespace(topic_id=lambda *_, **__: TOPIC_ID)), TOPIC_ID),
    )
    until, turns = time.monotonic() + PATIENCE_S, count()

    def stopping() -> bool:
        # what a worker publishes when it takes a shard is published by then
        if next(turns) == SETTLED_AFTER_TURNS:
            broker.append(Outgoing(CHANGES, 0, b"", CODEC.encode("VisitorErased", ERASED)))
        return bool(broker.logs[ERASURES, 0]) or time.monotonic() > until

    Worker(
        settings,
        consumer=member,
        shards=shards,
        store=store,
        producer=cast(Any, BackgroundProducer(broker)),
        codec=CODEC,
        topic_id=TOPIC_ID,
        stopping=stopping,
    ).run()
