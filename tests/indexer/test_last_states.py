"""The newest state of a subscription is the last one in the topic, whatever came late."""

import time
from typing import cast
from unittest.mock import Mock

import pytest

from audience_core.codec import Codec
from audience_core.domain.records import AudienceSubscription
from audience_core.errors import KafkaUnavailable
from audience_core.kafka.producer import RecordProducer
from audience_indexer.last_states import LastStates
from audience_indexer.totals import Totals
from tests.subscription_states import active

SHARDS = 2
CODEC = Codec()


def state(at: int, name: str = "Seven", audience_id: int = 7) -> AudienceSubscription:
    return active("demo", audience_id, at, name)


class Topic:
    """What the indexer reads, in order, and what it publishes."""

    def __init__(self) -> None:
        self.producer = Mock()
        self.last_states = LastStates(cast(RecordProducer, self.producer), CODEC, SHARDS)
        self._totals = Totals()

    def read(self, *records: AudienceSubscription) -> None:
        for record in records:
            self.last_states.note(record, self._totals.subscribe(record))

    def published(self) -> list[AudienceSubscription]:
        self.producer.send.reset_mock()
        self.last_states.publish()
        return [CODEC.decode(record.value)[1] for call in self.producer.send.mock_calls for record in call.args[0]]


def let_pass(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    then = time.monotonic() + seconds
    monkeypatch.setattr("audience_indexer.last_states.time.monotonic", lambda: then)


@pytest.fixture
def topic() -> Topic:
    return Topic()


def test_a_state_behind_which_an_older_one_came_is_published_once_and_again_while_it_is_not_read(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic.read(state(2), state(1), state(5, audience_id=8))
    assert topic.published() == [state(2)]
    assert topic.published() == []
    let_pass(monkeypatch, 20)
    assert topic.published() == [state(2)]
    topic.read(state(2))
    assert topic.last_states.all_last
    assert topic.published() == []


def test_what_is_followed_by_its_newest_state_already_is_left_alone(topic: Topic) -> None:
    topic.read(state(2), state(1), state(2), state(3))
    assert topic.published() == []


def test_of_two_states_of_one_time_none_is_older_so_two_indexers_do_not_outdo_each_other(topic: Topic) -> None:
    topic.read(state(2, "A"), state(2, "B"))
    assert topic.published() == []


def test_a_state_that_came_behind_a_newer_one_by_this_very_repair_is_repaired(topic: Topic) -> None:
    topic.read(state(2), state(1))
    assert topic.published() == [state(2)]
    topic.read(state(3), state(2))
    assert topic.published() == [state(3)]


def test_a_producer_without_room_is_asked_again_and_stops_nothing(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic.read(state(2), state(1))
    topic.producer.send.side_effect = KafkaUnavailable("full")
    topic.last_states.publish()
    topic.producer.send.side_effect = None
    let_pass(monkeypatch, 20)
    assert topic.published() == [state(2)]
