"""A worker that has left its group has no callback left when it closes: what one asks there may never be answered."""

import pytest

from tests.membership_worker.member import CLOSING, GIVEN, REVOKED, subscribed


@pytest.mark.parametrize("taken", [False, True])
def test_all_shards_are_given_back_before_the_consumer_closes(
    monkeypatch: pytest.MonkeyPatch, kafka_server: str, taken: bool
) -> None:
    with subscribed(monkeypatch, kafka_server) as (member, shards, _):
        member.wait_for_shards()
        if taken:
            shards.take_waiting()
        shards.close(classic=True)
        assert member.called == [GIVEN, REVOKED, CLOSING]
        assert not shards.taken


def test_a_static_member_closes_without_leaving(monkeypatch: pytest.MonkeyPatch, kafka_server: str) -> None:
    with subscribed(monkeypatch, kafka_server) as (member, shards, _):
        member.wait_for_shards()
        shards.close(classic=True, static=True)
        assert member.called == [GIVEN, CLOSING, REVOKED]


def test_leaving_twice_is_no_error(monkeypatch: pytest.MonkeyPatch, kafka_server: str) -> None:
    with subscribed(monkeypatch, kafka_server) as (member, shards, _):
        member.wait_for_shards()
        shards.leave(classic=True)
        shards.leave(classic=True)
        assert member.called == [GIVEN, REVOKED]
