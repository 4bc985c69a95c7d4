"""Sums of the shards' latest counts, of present epochs alone."""

import pytest

from audience_core.domain.records import AudienceSubscription, ShardCount, SubscriptionStatus
from audience_indexer.totals import Totals

AUDIENCE = ("demo", 7)


def count(number: int, *, offset: int = 1, shard: int = 0, epoch: int = 0) -> ShardCount:
    return ShardCount(account="demo", audience_id=7, epoch=epoch, shard=shard, count=number, offset=offset)


def subscription(epoch: int = 0, status: SubscriptionStatus = "ACTIVE") -> AudienceSubscription:
    return AudienceSubscription(
        account="demo",
        audience_id=7,
        name="Buyers",
        description="",
        status=status,
        epoch=epoch,
        settings={},
        opened_at=1,
        updated_at=epoch + 1,
    )


@pytest.fixture
def totals() -> Totals:
    totals = Totals()
    totals.subscribe(subscription())
    return totals


def test_a_total_is_the_sum_of_its_shards(totals: Totals) -> None:
    totals.count(count(2, shard=0))
    totals.count(count(3, shard=1))
    assert totals.total(AUDIENCE) == 5


def test_a_repeated_count_changes_nothing_and_a_newer_one_replaces_it(totals: Totals) -> None:
    for record in (count(2), count(2), count(5, offset=2)):
        totals.count(record)
    assert totals.total(AUDIENCE) == 5


def test_a_count_of_an_earlier_offset_comes_from_a_worker_that_lost_the_shard(totals: Totals) -> None:
    totals.count(count(5, offset=9))
    totals.count(count(2, offset=8))
    assert totals.total(AUDIENCE) == 5


def test_members_of_former_epochs_are_counted_for_nobody(totals: Totals) -> None:
    totals.count(count(2, epoch=0))
    totals.subscribe(subscription(epoch=1))
    totals.count(count(3, epoch=1))
    assert totals.total(AUDIENCE) == 3


def test_an_audience_that_is_removed_or_was_never_subscribed_has_no_members(totals: Totals) -> None:
    totals.count(count(2, epoch=1))
    totals.subscribe(subscription(epoch=1, status="REMOVED"))
    assert totals.total(AUDIENCE) == 0
    assert Totals(counts=totals.counts).total(AUDIENCE) == 0


def test_a_shard_s_own_counts_replace_earlier_ones_and_those_of_offsets_that_it_has_not_reached(totals: Totals) -> None:
    totals.count(count(5, offset=9))
    assert totals.replace_shard(0, {("demo", 7, 0): 2}, 7, reached=9) == set()
    assert totals.total(AUDIENCE) == 5
    assert totals.replace_shard(0, {("demo", 7, 0): 2}, 7, reached=8) == {AUDIENCE}
    assert totals.total(AUDIENCE) == 2
    assert totals.replace_shard(0, {}, 10, reached=10) == {AUDIENCE}
    assert totals.total(AUDIENCE) == 0
