"""Wires the indexer and runs it until SIGTERM."""

import threading
import time

from audience_core.errors import AudienceError, RetryableError
from audience_core.kafka.admin import TopicAdmin
from audience_core.observability.logging import configure, get_logger
from audience_core.observability.probes import ProbeServer
from audience_core.observability.stopping import Stop
from audience_core.redis.connect import connect
from audience_core.redis.shard_store import ShardStore
from audience_core.registry import make_codec
from audience_core.settings import load
from audience_indexer.indexer import Indexer, make_consumer
from audience_indexer.settings import IndexerSettings
from audience_indexer.watch import Watch, make_watch_consumer

log = get_logger()
DRAIN_S = 10.0
STUCK_AFTER_S = 60.0


def run() -> int:
    """Work until SIGTERM; return the exit code: 0 after a clean stop, 1 when it had to refuse."""
    settings = load(IndexerSettings)
    configure(settings, "indexer")
    stop = Stop(DRAIN_S)
    stop.listen()
    try:
        _run(settings, stop)
    except AudienceError as error:
        log.error("indexer_stopped", error=type(error).__name__, reason=str(error))
        return 1
    return 0


def _run(settings: IndexerSettings, stop: Stop) -> None:
    admin = TopicAdmin(settings)
    while not stop():
        try:
            admin.check()
            break
        except RetryableError as error:
            log.warning("waiting", error=str(error))
            stop.wait(1.0)
    client = connect(settings)
    consumer, store = make_consumer(settings), ShardStore(client, settings)
    indexer = Indexer(
        settings,
        consumer=consumer,
        client=client,
        store=store,
        codec=make_codec(settings),
        stopping=stop,
    )
    probes = ProbeServer(
        settings.host,
        settings.metrics_port,
        live=lambda: [] if time.monotonic() - indexer.last_turn < STUCK_AFTER_S else ["the loop makes no progress"],
        ready=lambda: [] if indexer.ready else ["the topics are not read to their end yet"],
    )
    watch = Watch(settings, consumer=make_watch_consumer(settings), client=client, store=store)
    watching = threading.Thread(target=watch.run, args=(stop,), name="watch", daemon=True)
    probes.start()
    watching.start()
    log.info("indexer_started", port=probes.port)
    try:
        indexer.run()
    finally:
        watching.join(DRAIN_S)
        consumer.close()
        client.close()
        probes.close()
