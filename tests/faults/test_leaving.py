"""A worker that is stopped leaves its group, and then closes with nothing left to say."""

import threading
import time
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from tests.membership_worker.member import CLOSING, GIVEN, REVOKED, subscribed
from tests.pipeline.kafka_cluster import KafkaCluster
from tests.pipeline.running import eventually

STANDS_STILL_S = 0.6
ARRIVED_S = 1.0
NOTICED_S = 1.0
"""how soon a group is empty after its only member left: well within a session of 3 s (KIP-848) or 6 s"""

both_protocols = pytest.mark.parametrize("protocol", ["classic", "consumer"])


class Described:
    """A group, as Kafka describes it."""

    def __init__(self, kafka: str, group: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": kafka})
        self._group = group

    def __call__(self) -> Any:
        return self._admin.describe_consumer_groups([self._group])[self._group].result()

    def has_given_all(self) -> bool:
        """Whether the member has all shards, as Kafka sees it."""
        try:
            found = self()
        except KafkaException:  # while the topic of the groups is made
            return False
        given = [len(member.assignment.topic_partitions) for member in found.members]
        return found.state == ConsumerGroupState.STABLE and given == [len(GIVEN[1])]

    def members(self) -> int:
        """How many are in it."""
        return len(self().members)


@both_protocols
def test_shards_that_arrive_just_before_it_closes_are_given_back_first(
    monkeypatch: pytest.MonkeyPatch, one_node: KafkaCluster, protocol: str
) -> None:
    with subscribed(monkeypatch, one_node.address, protocol) as (member, shards, settings):
        eventually(Described(one_node.address, settings.worker_group).has_given_all, 20)
        time.sleep(ARRIVED_S)  # only a poll, left out here, would tell that the answer has arrived
        shards.close(classic=protocol == "classic")
        assert member.called == [GIVEN, REVOKED, CLOSING]


@both_protocols
def test_it_leaves_though_kafka_answers_its_commit_late(
    monkeypatch: pytest.MonkeyPatch, one_node: KafkaCluster, protocol: str
) -> None:
    with subscribed(monkeypatch, one_node.address, protocol) as (member, shards, settings):
        member.wait_for_shards()
        shards.take_waiting()
        one_node.nodes[0].freeze()
        thaw = threading.Timer(STANDS_STILL_S, one_node.nodes[0].thaw)
        thaw.start()
        try:
            shards.commit(dict.fromkeys(shards.taken, 1))
            shards.close(classic=protocol == "classic")
        finally:
            thaw.join()
        eventually(Described(one_node.address, settings.worker_group).members, NOTICED_S, 0)
