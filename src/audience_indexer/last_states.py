"""Keeps the newest state of each subscription the last one in its topic, since compaction leaves nothing else.

A gateway's record that Kafka did not acknowledge in time may still arrive, seconds later, behind a newer one of another
gateway. The indexer reads every record in its place, also those from before its start, so it sees each that is older
than one before it, and publishes the newest once more. Kafka never compacts the segment that is being written, which
leaves time for that. What is published is read again like any other, so a newer state that it came behind is found too.
"""

import time

from confluent_kafka import KafkaError

from audience_core.codec import Codec
from audience_core.domain.partitioning import audience_key, shard_of
from audience_core.domain.records import AudienceSubscription
from audience_core.domain.subscriptions import newer
from audience_core.errors import KafkaUnavailable
from audience_core.kafka.producer import Outgoing, RecordProducer
from audience_core.observability.logging import get_logger
from audience_core.topics import SUBSCRIPTIONS

_AGAIN_S = 15.0
"""The producer has given a record up by then (`message.timeout.ms`)."""

log = get_logger()


class LastStates:
    """Audiences whose last record is not the newest."""

    def __init__(self, producer: RecordProducer, codec: Codec, shards: int) -> None:
        self._producer = producer
        self._codec = codec
        self._shards = shards
        self._hidden: dict[bytes, tuple[AudienceSubscription, float]] = {}
        """key → (newest state, when it is to be published)"""

    def note(self, last: AudienceSubscription, newest: AudienceSubscription) -> None:
        """A record was read: the last one of its audience so far. `newest` is the newest of all."""
        key = audience_key(last["account"], last["audience_id"])
        if newer(last, newest) == last:
            self._hidden.pop(key, None)
        else:
            self._hidden[key] = (newest, 0.0)

    def publish(self) -> None:
        """Publish what is hidden behind older records. Waits for nothing: what does not arrive is sent again."""
        now = time.monotonic()
        due = {key: state for key, (state, at) in self._hidden.items() if now >= at}
        if not due:
            return
        self._hidden |= {key: (state, now + _AGAIN_S) for key, state in due.items()}
        try:
            self._producer.send([self._outgoing(key, state) for key, state in due.items()], _tell)
        except KafkaUnavailable as error:
            log.warning("newest_subscriptions_not_published", error=str(error))

    @property
    def all_last(self) -> bool:
        """Whether each audience's last record is its newest."""
        return not self._hidden

    def _outgoing(self, key: bytes, state: AudienceSubscription) -> Outgoing:
        value = self._codec.encode("AudienceSubscription", state)
        return Outgoing(SUBSCRIPTIONS, shard_of(key, self._shards), key, value)


def _tell(error: KafkaError | None) -> None:
    if error is None:
        log.info("newest_subscriptions_published")
    else:
        log.warning("newest_subscriptions_not_published", error=error.name())
