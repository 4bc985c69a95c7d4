"""Whether a batch leaves out records of its shard."""

from membership_worker.shard import OUTSIDE_S, Shard


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


def test_a_hole_is_believed_once_and_never_backwards() -> None:
    shard = Shard(0, 5, 5)
    assert not shard.continues_at(7)
    assert shard.continues_at(7)
    shard.position = 6
    assert not shard.continues_at(7)
    shard.position = 9
    assert not shard.continues_at(7)
    assert not shard.continues_at(7)


def test_a_log_that_lacks_the_position_is_believed_when_it_says_so_again_and_again() -> None:
    shard = Shard(0, 5, 5)
    assert shard.outside(100.0) == 0
    assert [shard.outside(100.0 + second) for second in range(1, 21)] == list(range(1, 21))
    assert shard.outside(121.0) > OUTSIDE_S


def test_two_elections_that_lie_apart_are_no_missing_record() -> None:
    shard = Shard(0, 5, 5)
    for election in (100.0, 3_700.0):
        assert shard.outside(election) == 0
        assert shard.outside(election + 1) == 1
