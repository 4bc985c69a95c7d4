"""Wires a worker and runs it until SIGTERM."""

import time

from audience_core.errors import AudienceError
from audience_core.kafka.admin import TopicAdmin
from audience_core.kafka.producer import RecordProducer
from audience_core.observability.logging import configure, get_logger
from audience_core.observability.probes import ProbeServer
from audience_core.observability.stopping import Stop, patiently
from audience_core.redis.connect import Redis, connect
from audience_core.redis.shard_store import ShardStore, claim_shard_count
from audience_core.registry import make_codec
from audience_core.settings import load
from audience_core.topics import CHANGES
from membership_worker.settings import WorkerSettings
from membership_worker.shards import Shards, make_consumer
from membership_worker.topic_watch import TopicWatch
from membership_worker.worker import Worker

log = get_logger()
STUCK_AFTER_S = 60.0


def run() -> int:
    """Work until SIGTERM; return the exit code: 0 after a clean stop, 1 when the worker had to refuse."""
    settings = load(WorkerSettings)
    configure(settings, "worker")
    stop = Stop(settings.drain_timeout.total_seconds())
    stop.listen()
    try:
        _run(settings, stop)
    except AudienceError as error:
        log.error("worker_stopped", error=type(error).__name__, reason=str(error))
        return 1
    return 0


def _run(settings: WorkerSettings, stop: Stop) -> None:
    admin = TopicAdmin(settings)
    topic_id = patiently(lambda: _topic_id(admin), stop)
    client = patiently(lambda: _claimed(settings), stop)
    if topic_id is None or client is None:
        return
    store = ShardStore(client, settings)
    consumer = make_consumer(settings)
    producer = RecordProducer(settings, "worker", linger_ms=5)
    watch = TopicWatch(admin, topic_id)
    shards = Shards(consumer, store, topic_id, accept_partial=settings.accept_partial_rebuild, watch=watch)
    worker = Worker(
        settings,
        consumer=consumer,
        shards=shards,
        store=store,
        producer=producer,
        codec=make_codec(settings),
        topic_id=topic_id,
        stopping=stop,
    )
    probes = ProbeServer(
        settings.host,
        settings.metrics_port,
        live=lambda: [] if time.monotonic() - worker.last_turn < STUCK_AFTER_S else ["the loop makes no progress"],
        ready=lambda: [] if shards.joined else ["no assignment from the group yet"],
    )
    probes.start()
    watch.start()
    log.info("worker_started", port=probes.port)
    try:
        worker.run()
    finally:
        watch.close()
        consumer.close()
        producer.close()
        client.close()
        probes.close()
    log.info("worker_stopped", reason="told to stop")


def _topic_id(admin: TopicAdmin) -> str:
    admin.check()
    return admin.topic_id(CHANGES)


def _claimed(settings: WorkerSettings) -> Redis:
    client = connect(settings)
    claim_shard_count(client, settings.shards)
    return client
