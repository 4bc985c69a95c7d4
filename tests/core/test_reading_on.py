"""Whether a batch leaves out records of its shard."""

from membership_worker.shards import Shard


def test_a_batch_that_begins_where_the_last_one_ended_leaves_nothing_out() -> None:
    assert Shard(0, 5, 5).continues_at(5)


def test_a_batch_that_begins_elsewhere_is_read_again() -> None:
    for offset in (0, 4, 6, 500):
        assert not Shard(0, 5, 5).continues_at(offset)


def test_a_hole_that_is_still_there_after_reading_again_is_one_of_the_log() -> None:
    shard = Shard(0, 5, 5)
    assert not shard.continues_at(7)
    assert shard.continues_at(7)
    assert not shard.continues_at(9)
