"""Wires the indexer and runs it until SIGTERM."""

import threading
import time
from functools import partial

from audience_core.codec import Codec
from audience_core.errors import AudienceError
from audience_core.kafka.admin import TopicAdmin
from audience_core.kafka.lag import make_lag_consumer
from audience_core.kafka.producer import RecordProducer
from audience_core.observability.logging import configure, get_logger
from audience_core.observability.probes import ProbeServer
from audience_core.observability.stopping import Stop
from audience_core.observability.tracing import open_tracing
from audience_core.redis.connect import Redis, connect
from audience_core.redis.shard_count import check_shard_count
from audience_core.redis.shard_store import ShardStore
from audience_core.registry import make_codec
from audience_core.settings import load
from audience_indexer.indexer import Indexer, make_consumer
from audience_indexer.last_states import LastStates
from audience_indexer.settings import IndexerSettings
from audience_indexer.watch import Watch

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


class _State:
    """What the probes tell, before and after there is an indexer."""

    def __init__(self) -> None:
        self.indexer: Indexer | None = None
        self._waiting_for: str | None = None

    def waits_for(self, reason: str | None) -> None:
        self._waiting_for = reason

    def dead(self) -> list[str]:
        hangs = self.indexer is not None and time.monotonic() - self.indexer.last_turn > STUCK_AFTER_S
        return ["the loop makes no progress"] if hangs else []

    def not_ready(self) -> list[str]:
        waiting_for = self._waiting_for or (self.indexer.waiting_for if self.indexer else None)
        if waiting_for:
            return [waiting_for]
        read = self.indexer is not None and self.indexer.ready
        return [] if read else ["the topics are not read to their end yet"]


def _run(settings: IndexerSettings, stop: Stop) -> None:
    state = _State()
    # before anything is waited for: an indexer that waits for Kafka lives, and says what it waits for
    probes = ProbeServer(settings.host, settings.metrics_port, live=state.dead, ready=state.not_ready)
    probes.start()
    log.info("indexer_started", port=probes.port)
    try:
        stop.retrying(TopicAdmin(settings).check, state.waits_for)
        codec = stop.retrying(partial(make_codec, settings), state.waits_for)
        client = stop.retrying(partial(connect, settings), state.waits_for)
        if client is not None:
            stop.retrying(partial(check_shard_count, client, settings.shards), state.waits_for)
        if codec is not None and client is not None:
            _index(settings, codec, client, state, stop)
    finally:
        probes.close()


def _index(settings: IndexerSettings, codec: Codec, client: Redis, state: _State, stop: Stop) -> None:
    consumer, store = make_consumer(settings), ShardStore(client, settings)
    producer = RecordProducer(settings, "indexer")
    tracing = open_tracing(settings, "indexer")
    indexer = Indexer(
        settings,
        consumer=consumer,
        client=client,
        store=store,
        codec=codec,
        last_states=LastStates(producer, codec, settings.shards),
        stopping=stop,
        tracing=tracing,
    )
    state.indexer = indexer
    watch = Watch(settings, consumer=make_lag_consumer(settings, "indexer-watch"), client=client, store=store)
    watching = threading.Thread(target=watch.run, args=(stop,), name="watch", daemon=True)
    watching.start()
    try:
        indexer.run()
    finally:
        watching.join(DRAIN_S)
        consumer.close()
        producer.close()
        client.close()
        if tracing is not None:
            tracing.close()
