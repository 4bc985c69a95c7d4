"""Makes and checks the topics."""

import logging
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from audience_core.errors import KafkaUnavailable, RetryableError, TopicMismatch, TopicMissing
from audience_core.kafka.client import options
from audience_core.observability.logging import get_logger
from audience_core.settings import CoreSettings
from audience_core.topics import TOPICS, TopicSpec

log = get_logger()
_TIMEOUT = 10.0
# a probe asks too, and is given 5 s in all
_OFFSETS_TIMEOUT = 3.0
_LEADERS_TIMEOUT = 1.0
# Kafka answers a creation once its controller has decided; each broker learns of it a moment later
_VISIBLE_WITHIN = 10.0


class TopicAdmin:
    """Creates the topics of `topics.py`, and tells how existing ones differ."""

    def __init__(self, settings: CoreSettings) -> None:
        self._settings = settings
        # to ask about a topic that is gone must not bring it back, with the brokers' own number of partitions
        config = {"allow.auto.create.topics": False, **options(settings, "admin")}
        self._client = AdminClient(config, logger=logging.getLogger("rdkafka"))

    def create_missing(self) -> list[str]:
        """Create what is missing and return the names; then check all. Raises TopicMismatch, KafkaUnavailable.

        Brokers learn of topics one after another. So what one of them still shows may have been deleted, and is created
        once another says so; and what one does not show yet may be there already.
        """
        created: set[str] = set()
        patience = Retrying(
            retry=retry_if_exception_type(TopicMissing),
            wait=wait_random_exponential(0.1, max=1),
            stop=stop_after_delay(_VISIBLE_WITHIN),
            reraise=True,
        )
        for attempt in patience:
            with attempt:
                created |= self._create_missing()
                self.check()
        return [spec.name for spec in TOPICS if spec.name in created]

    def _create_missing(self) -> set[str]:
        existing = self._existing()
        missing = [self._new(spec) for spec in TOPICS if spec.name not in existing]
        futures = self._client.create_topics(missing, request_timeout=_TIMEOUT) if missing else {}
        created = set()
        for name, future in futures.items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise KafkaUnavailable(f"topic {name} could not be created: {error.args[0].str()}") from error
            else:
                created.add(name)
        return created

    def check(self) -> None:
        """Raise TopicMissing, or TopicMismatch when one has other partitions, replication or clean-up."""
        existing = self._existing()
        missing = [spec.name for spec in TOPICS if spec.name not in existing]
        if missing:
            raise TopicMissing(f"no topic {', '.join(missing)}: run `audience-stream topics create`")
        problems = [problem for spec in TOPICS for problem in self._differences(spec, existing)]
        if problems:
            raise TopicMismatch("; ".join(problems))

    def topic_id(self, topic: str, timeout: float = _TIMEOUT) -> str:
        """The id that Kafka gave the topic at its creation: a recreated topic has another one."""
        try:
            described = self._client.describe_topics(TopicCollection([topic]), request_timeout=timeout)[topic].result()
        except KafkaException as error:
            raise _retryable(f"topic {topic} could not be described", error) from error
        return str(described.topic_id)

    def starts(self, topic: str, partitions: list[int]) -> dict[int, int]:
        """Partition → offset of its first record, asked for all at once.

        Without those whose leader does not answer. Raises KafkaUnavailable when none does.
        """
        return self._offsets(topic, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def ends(self, topic: str, partitions: list[int]) -> dict[int, int]:
        """Partition → offset after its last record, as `starts` does; the embedded broker names too low ones."""
        return self._offsets(topic, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def _offsets(self, topic: str, partitions: list[int], which: OffsetSpec) -> dict[int, int]:
        if not partitions:
            return {}
        self._look_for_leaders(topic)
        asked = {TopicPartition(topic, partition): which for partition in partitions}
        found, why = {}, "no leader answers"
        for partition, future in self._client.list_offsets(asked, request_timeout=_OFFSETS_TIMEOUT).items():
            try:
                offset = int(future.result().offset)
            except KafkaException as error:
                why = error.args[0].str()
            else:
                if offset >= 0:  # of a leader that can't be reached there is no error, but an offset that is none
                    found[partition.partition] = offset
        if not found:
            raise KafkaUnavailable(
                f"Kafka at {self._settings.kafka_bootstrap_servers} (AUDIENCE_KAFKA_BOOTSTRAP_SERVERS) does not tell "
                f"the offsets of {topic}: {why}"
            )
        return found

    def _look_for_leaders(self, topic: str) -> None:
        """Learn who leads the topic now.

        After an election the client would ask the former leaders for ever. And when it connects just while it is asked
        for offsets, it may wait 3 s before it looks for the leaders itself.
        """
        try:
            self._client.list_topics(topic, timeout=_LEADERS_TIMEOUT)
        except KafkaException as error:
            log.debug("leaders_not_found", topic=topic, error=error.args[0].str())

    def _existing(self) -> dict[str, Any]:
        try:
            return dict(self._client.list_topics(timeout=_TIMEOUT).topics)
        except KafkaException as error:
            raise KafkaUnavailable(
                f"no broker answers at {self._settings.kafka_bootstrap_servers} (AUDIENCE_KAFKA_BOOTSTRAP_SERVERS)"
            ) from error

    def _new(self, spec: TopicSpec) -> NewTopic:
        return NewTopic(spec.name, self._settings.shards, self._settings.kafka_replication, config=self._config(spec))

    def _config(self, spec: TopicSpec) -> dict[str, str]:
        return {**spec.config, "min.insync.replicas": str(max(1, self._settings.kafka_replication - 1))}

    def _differences(self, spec: TopicSpec, existing: dict[str, Any]) -> list[str]:
        partitions = existing[spec.name].partitions
        problems = []
        if len(partitions) != self._settings.shards:
            problems.append(f"{spec.name} has {len(partitions)} partitions, AUDIENCE_SHARDS is {self._settings.shards}")
        replicas = {len(partition.replicas) for partition in partitions.values()}
        if replicas and min(replicas) < self._settings.kafka_replication:
            problems.append(
                f"{spec.name} has {min(replicas)} replicas, AUDIENCE_KAFKA_REPLICATION is "
                f"{self._settings.kafka_replication}"
            )
        resource = ConfigResource(ResourceType.TOPIC, spec.name)
        try:
            found = self._client.describe_configs([resource], request_timeout=_TIMEOUT)[resource].result()
        except KafkaException as error:
            raise _retryable(f"the settings of topic {spec.name} could not be read", error) from error
        for name, wanted in self._config(spec).items():
            if name != "retention.ms" and (name not in found or found[name].value != wanted):
                value = found[name].value if name in found else None
                problems.append(f"{spec.name} has {name}={value}, wanted {wanted}")
        return problems


def _retryable(what: str, error: KafkaException) -> RetryableError:
    unknown = error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    return (TopicMissing if unknown else KafkaUnavailable)(f"{what}: {error.args[0].str()}")
