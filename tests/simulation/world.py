"""The services' own code, wired to a simulated Kafka, Redis and clock."""

import math
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from types import SimpleNamespace
from typing import Any, cast

from pydantic import SecretStr

from audience_core.codec import Codec
from audience_core.observability.probes import probe_answer
from audience_core.redis.activity import ActivityStore
from audience_core.redis.catalog import AsyncCatalogStore
from audience_core.redis.control import ControlStore, KeyRecord
from audience_core.redis.erasures import ErasureStore
from audience_core.redis.shard_store import ShardStore
from audience_core.topics import CHANGES
from audience_indexer.indexer import Indexer
from audience_indexer.last_states import LastStates
from audience_indexer.settings import IndexerSettings
from ingest_gateway.activity import ActivityLog
from ingest_gateway.app import Gateway
from ingest_gateway.caches import CatalogCache, KeyRing
from ingest_gateway.erasure import Erasures
from ingest_gateway.outgoing import Records
from ingest_gateway.probing import Probes
from ingest_gateway.settings import GatewaySettings
from ingest_gateway.subscriptions import Subscriptions
from membership_worker.progress import Progress
from membership_worker.settings import WorkerSettings
from membership_worker.shards import Shards
from membership_worker.topic_watch import TopicWatch
from membership_worker.worker import Worker
from tests.simulation.clock import Clock
from tests.simulation.plan import ACCOUNT, SHARDS
from tests.simulation.scheduler import Process, Scheduler, drive
from tests.simulation.simulated_kafka import (
    BackgroundProducer,
    Broker,
    GatewayPublisher,
    Group,
    GroupConsumer,
    PublishedStates,
    WholeTopics,
)
from tests.simulation.simulated_redis import AsyncClient, Client, RedisServer, stored_offset

WINDOW_S, SUPPRESSION_S = 60, 120
COMPARE_EVERY_S = 600
"""so seldom that it is not what keeps the listing right, only what mends it when counts got lost"""
TOPIC_ID = "topic-1"
GATEWAY_SKEWS_S = (0.0, -3.0)

_COMMON: dict[str, Any] = {
    "shards": SHARDS,
    "ordering_window": timedelta(seconds=WINDOW_S),
    "erasure_suppression": timedelta(seconds=SUPPRESSION_S),
    "pepper": SecretStr("pepper-of-the-simulation"),
}
GATEWAY = GatewaySettings(**_COMMON)
WORKER = WorkerSettings(**_COMMON)
INDEXER = IndexerSettings(**_COMMON, indexer_compare_every=timedelta(seconds=COMPARE_EVERY_S))
CODEC = Codec()


class OneKey(KeyRing):
    """Any secret is the account's: API keys are not what is simulated."""

    async def find(self, _secret: str) -> KeyRecord | None:
        return KeyRecord(account=ACCOUNT, id="key", status="active")


@dataclass
class RunningGateway:
    gateway: Gateway
    catalogs: CatalogCache
    publisher: GatewayPublisher


@dataclass
class RunningWorker:
    process: Process
    consumer: GroupConsumer
    producer: BackgroundProducer
    stopping: bool = False


@dataclass
class RunningIndexer:
    process: Process
    consumer: WholeTopics
    producer: BackgroundProducer
    last_states: LastStates


class World:
    """Everything of one run. Processes are started, killed and started again by whoever plays it."""

    def __init__(self, random: Random, clock: Clock) -> None:
        self.clock = clock
        self.scheduler = Scheduler(random, clock)
        self.broker = Broker(self.scheduler, SHARDS)
        self.redis = RedisServer(self.scheduler, WINDOW_S * 1000, SUPPRESSION_S * 1000)
        self.group = Group(self.scheduler, SHARDS)
        self.workers: list[RunningWorker] = []
        self.gateways = [self._gateway(number) for number in range(len(GATEWAY_SKEWS_S))]
        self.caches: list[Process] = []
        self._started = 0
        for number in range(len(self.gateways)):
            self._refresh(number)
        self.indexer = self.start_indexer()
        self.start_worker()
        self.start_worker()

    def _gateway(self, number: int) -> RunningGateway:
        client = cast(Any, AsyncClient(self.redis))
        store = AsyncCatalogStore(client)
        catalogs, records = CatalogCache(store), Records(CODEC, SHARDS)
        control, publisher = ControlStore(client, b""), GatewayPublisher(self.broker)
        published = PublishedStates(self.broker, CODEC)
        subscriptions = Subscriptions(store, catalogs, records, CODEC, published)
        self.scheduler.spawn(f"network of gateway {number}", publisher.network)
        gateway = Gateway(
            GATEWAY,
            keys=OneKey(control, b""),
            catalogs=catalogs,
            subscriptions=subscriptions,
            erasures=Erasures(
                ControlStore(client, b""), ErasureStore(client, SHARDS), records, GATEWAY.required_pepper()
            ),
            publisher=publisher,
            records=records,
            activity_log=ActivityLog(ActivityStore(client)),
            probes=Probes(lambda: probe_answer([])),
        )
        return RunningGateway(gateway, catalogs, publisher)

    def _refresh(self, number: int) -> None:
        """The gateway's side task that keeps its catalogs fresh."""

        def run() -> None:
            while True:
                self.scheduler.rest(30)
                try:
                    drive(self.gateways[number].catalogs.refresh())
                except Exception as error:  # noqa: BLE001 - as refresh_forever: the cache stays as it is
                    self.scheduler.note(f"catalogs not refreshed: {error}")
                self.clock.sleep(0.05)

        self.scheduler.spawn(f"gateway {number} refresh", run, skew_s=GATEWAY_SKEWS_S[number])

    def restart_gateway(self, number: int) -> None:
        """It comes back with empty caches; requests under way are the senders' to repeat."""
        self.gateways[number].publisher.closed = True
        self.gateways[number] = self._gateway(number)

    def start_worker(self) -> RunningWorker:
        self._started += 1
        name = f"worker {self._started}"
        consumer, producer = GroupConsumer(self.broker, self.group), BackgroundProducer(self.broker)
        store = ShardStore(cast(Any, Client(self.redis)), WORKER)
        shards = Shards(
            cast(Any, consumer),
            store,
            TOPIC_ID,
            watch=TopicWatch(cast(Any, SimpleNamespace(topic_id=lambda *_, **__: TOPIC_ID)), TOPIC_ID),
            starts=self.broker.starts,
            progress=Progress(math.inf, self.broker.starts, self.clock.monotonic),
            accept_partial=False,
        )

        def run() -> None:
            worker = Worker(
                WORKER,
                consumer=cast(Any, consumer),
                shards=shards,
                store=store,
                producer=cast(Any, producer),
                codec=CODEC,
                topic_id=TOPIC_ID,
                stopping=lambda: running.stopping,
            )
            worker.run()
            self.forget_worker(running)

        running = RunningWorker(self.scheduler.spawn(name, run), consumer, producer)
        self.scheduler.spawn(f"network of {name}", producer.deliver)
        self.workers.append(running)
        self.scheduler.note(f"{name} started")
        return running

    def kill_worker(self, worker: RunningWorker) -> None:
        """Its counts under way may still arrive: they have left it already."""
        self.scheduler.note(f"{worker.process.name} killed")
        self.scheduler.kill(worker.process)
        self.forget_worker(worker)

    def forget_worker(self, worker: RunningWorker) -> None:
        worker.producer.closed = True
        worker.consumer.leave()
        if worker in self.workers:
            self.workers.remove(worker)

    def start_indexer(self) -> RunningIndexer:
        consumer, client = WholeTopics(self.broker), cast(Any, Client(self.redis))
        producer = BackgroundProducer(self.broker)
        last_states = LastStates(cast(Any, producer), CODEC, SHARDS)

        def run() -> None:
            Indexer(
                INDEXER,
                consumer=cast(Any, consumer),
                client=client,
                store=ShardStore(client, INDEXER),
                codec=CODEC,
                last_states=last_states,
                stopping=lambda: False,
            ).run()

        self.scheduler.spawn("network of the indexer", producer.deliver)
        return RunningIndexer(self.scheduler.spawn("indexer", run), consumer, producer, last_states)

    def restart_indexer(self) -> None:
        self.scheduler.note("indexer killed and started again")
        self.scheduler.kill(self.indexer.process)
        self.indexer.producer.closed = True
        self.indexer = self.start_indexer()

    def at_rest(self) -> bool:
        """Whether everything that was written has been read, applied and told."""
        applied = all(stored_offset(self.redis, number) == self.broker.end(CHANGES, number) for number in range(SHARDS))
        producers = [self.indexer.producer, *(worker.producer for worker in self.workers)]
        published = all(producer.idle for producer in producers) and self.indexer.last_states.all_last
        published = published and all(gateway.publisher.idle for gateway in self.gateways)
        return applied and self.indexer.consumer.at_end and published
