"""Wires a worker and runs it until SIGTERM."""

from contextlib import closing
from functools import partial

from audience_core.errors import AudienceError
from audience_core.garbage import spare_the_collector
from audience_core.kafka.admin import TopicAdmin
from audience_core.kafka.producer import RecordProducer
from audience_core.observability.logging import configure, get_logger
from audience_core.observability.probes import ProbeServer
from audience_core.observability.stopping import Stop
from audience_core.observability.tracing import open_tracing
from audience_core.redis.connect import Redis, connect
from audience_core.redis.shard_count import claim_shard_count
from audience_core.redis.shard_store import ShardStore
from audience_core.registry import make_codec
from audience_core.settings import load
from audience_core.topics import CHANGES
from membership_worker.consumer import make_consumer
from membership_worker.progress import Progress
from membership_worker.settings import WorkerSettings
from membership_worker.shards import Shards
from membership_worker.topic_watch import TopicWatch
from membership_worker.worker import Worker

log = get_logger()


def run() -> int:
    """Work until SIGTERM; return the exit code: 0 after a clean stop, 1 when the worker had to refuse."""
    settings = load(WorkerSettings)
    configure(settings, "worker")
    stop = Stop(settings.drain_timeout.total_seconds())
    stop.listen()
    admin = TopicAdmin(settings)
    progress = Progress(settings.worker_stuck_after.total_seconds(), partial(admin.ends, CHANGES))
    try:
        # before anything is waited for: a worker that waits for Kafka or Redis lives, and says what it waits for
        probes = ProbeServer(settings.host, settings.metrics_port, live=progress.dead, ready=progress.not_ready)
        with closing(probes):
            probes.start()
            log.info("worker_started", port=probes.port)
            client = stop.retrying(partial(connect, settings), progress.waits_for)
            if client is not None:
                with client:
                    _run(settings, admin, client, progress, stop)
    except AudienceError as error:
        log.error("worker_stopped", error=type(error).__name__, reason=str(error))
        return 1
    return 0


def _run(settings: WorkerSettings, admin: TopicAdmin, client: Redis, progress: Progress, stop: Stop) -> None:
    topic_id = stop.retrying(partial(_topic_id, admin), progress.waits_for)
    stop.retrying(partial(claim_shard_count, client, settings.shards), progress.waits_for)
    codec = stop.retrying(partial(make_codec, settings), progress.waits_for)
    if stop() or topic_id is None or codec is None:
        return
    store = ShardStore(client, settings)
    tracing = open_tracing(settings, "worker")
    consumer = make_consumer(settings)
    producer = RecordProducer(settings, "worker", linger_ms=5)
    watch = TopicWatch(admin, topic_id)
    shards = Shards(
        consumer,
        store,
        topic_id,
        starts=partial(admin.starts, CHANGES),
        progress=progress,
        accept_partial=settings.accept_partial_rebuild,
        watch=watch,
    )
    worker = Worker(
        settings,
        consumer=consumer,
        shards=shards,
        store=store,
        producer=producer,
        codec=codec,
        topic_id=topic_id,
        stopping=stop,
        tracing=tracing,
    )
    watch.start()
    spare_the_collector()
    try:
        worker.run()
    finally:
        watch.close()
        shards.close(
            classic=settings.kafka_group_protocol == "classic", static="group.instance.id" in settings.kafka_options
        )
        producer.close()
        store.close()
        if tracing is not None:
            tracing.close()
    log.info("worker_stopped", reason="told to stop")


def _topic_id(admin: TopicAdmin) -> str:
    admin.check()
    return admin.topic_id(CHANGES)
