"""What is asked about topics."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from audience_core.errors import KafkaUnavailable
from audience_core.kafka.admin import TopicAdmin
from audience_core.settings import CoreSettings
from audience_core.topics import TOPICS

NO_OFFSET = -1001


class Cluster:
    """A client of brokers of which some don't answer, as librdkafka shows it."""

    def __init__(self, answers: dict[int, int | KafkaException]) -> None:
        self._answers = answers
        self.leaders_looked_for = 0
        self.asked_after_looking: list[int] = []

    def list_offsets(self, asked: dict[TopicPartition, Any], **_: Any) -> dict[TopicPartition, "Future[Any]"]:
        self.asked_after_looking.append(self.leaders_looked_for)
        futures: dict[TopicPartition, Future[Any]] = {partition: Future() for partition in asked}
        for partition, future in futures.items():
            answer = self._answers[partition.partition]
            if isinstance(answer, KafkaException):
                future.set_exception(answer)
            else:
                future.set_result(SimpleNamespace(offset=answer))
        return futures

    def list_topics(self, *_: Any, **__: Any) -> None:
        self.leaders_looked_for += 1


def admin_of(cluster: Cluster) -> TopicAdmin:
    admin = TopicAdmin(CoreSettings())
    admin._client = cluster  # type: ignore[assignment]  # noqa: SLF001 - nothing else stands for a broken cluster
    return admin


FENCED = KafkaException(KafkaError(KafkaError.FENCED_LEADER_EPOCH))


def test_a_leader_that_does_not_answer_hides_its_own_partitions_alone() -> None:
    cluster = Cluster({0: 7, 1: NO_OFFSET, 2: FENCED, 3: 0})
    assert admin_of(cluster).starts("changes", [0, 1, 2, 3]) == {0: 7, 3: 0}


def test_without_any_leader_the_offsets_are_not_told() -> None:
    for answer in (NO_OFFSET, FENCED):
        cluster = Cluster({0: answer})
        with pytest.raises(KafkaUnavailable, match="does not tell the offsets of changes"):
            admin_of(cluster).ends("changes", [0])


def test_leaders_are_looked_for_before_each_question() -> None:
    """A client that has to find them for the question itself may take longer than the question's time."""
    cluster = Cluster({0: 7})
    assert admin_of(cluster).ends("changes", [0]) == {0: 7}
    assert admin_of(cluster).ends("changes", [0]) == {0: 7}
    assert admin_of(cluster).ends("changes", []) == {}
    assert cluster.asked_after_looking == [1, 2]


class TwoBrokers:
    """Answers in turns: from a broker that has not heard of a deletion yet, then from those that have."""

    def __init__(self) -> None:
        self._shown = [{spec.name for spec in TOPICS}]
        self.topics: set[str] = set()

    def list_topics(self, *_: Any, **__: Any) -> Any:
        shown = self._shown.pop() if self._shown else self.topics
        return SimpleNamespace(topics=dict.fromkeys(shown))

    def create_topics(self, new: list[Any], **_: Any) -> dict[str, "Future[None]"]:
        futures = {each.topic: Future[None]() for each in new}
        for name, future in futures.items():
            self.topics.add(name)
            future.set_result(None)
        return futures


def test_topics_that_a_broker_still_shows_though_they_were_deleted_are_created(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, admin = TwoBrokers(), TopicAdmin(CoreSettings())
    monkeypatch.setattr(admin, "_client", cluster)
    monkeypatch.setattr(admin, "_differences", lambda *_: [])
    assert admin.create_missing() == [spec.name for spec in TOPICS]
    assert cluster.topics == {spec.name for spec in TOPICS}


def test_to_ask_about_a_topic_that_is_gone_does_not_create_it() -> None:
    """On the client's own mock cluster, which creates a topic for whoever asks for it."""
    admin = TopicAdmin(CoreSettings(kafka_options={"test.mock.num.brokers": 1, "log_level": 0}))
    with pytest.raises(KafkaUnavailable, match="does not tell the offsets of gone"):
        admin.starts("gone", [0])
    assert list(admin._client.list_topics(timeout=5).topics) == []  # noqa: SLF001 - the cluster is this client's own
