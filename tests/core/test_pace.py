"""How long a backlog will take, from measurements of it."""

import pytest

from audience_core.domain.pace import Pace


def measured(*seen: tuple[float, int, int]) -> Pace:
    """(now, done, left) each"""
    pace = Pace(over_s=30)
    for one in seen:
        pace.add(*one)
    return pace


def test_nothing_is_known_before_the_second_measurement() -> None:
    assert (measured().rate, measured().seconds_left) == (None, None)
    once = measured((100, 5, 1000))
    assert (once.rate, once.seconds_left) == (None, None)


def test_two_measurements_give_a_rate_and_an_end() -> None:
    pace = measured((100, 0, 1000), (102, 200, 800))
    assert (pace.rate, pace.seconds_left) == (100, 8)


def test_what_comes_meanwhile_puts_the_end_off() -> None:
    pace = measured((100, 0, 1000), (110, 1000, 500))  # 500 came
    assert (pace.rate, pace.seconds_left) == (100, 10)


@pytest.mark.parametrize("left", [1000, 1500])
def test_a_backlog_that_does_not_shrink_has_no_end(left: int) -> None:
    pace = measured((100, 0, 1000), (110, 1000, left))
    assert (pace.rate, pace.seconds_left) == (100, None)


def test_what_stands_still_has_a_rate_of_zero_and_no_end() -> None:
    pace = measured((100, 7, 1000), (110, 7, 1000))
    assert (pace.rate, pace.seconds_left) == (0, None)


def test_nothing_left_takes_no_time() -> None:
    assert measured((100, 7, 0)).seconds_left == 0
    assert measured((100, 7, 10), (110, 7, 0)).seconds_left == 0


def test_the_pace_is_that_of_the_last_while_alone() -> None:
    slow_then_fast = [(float(n), n * 10, 100_000 - n * 10) for n in range(100)]
    slow_then_fast += [(100.0 + n, 1000 + n * 1000, 99_000 - n * 1000) for n in range(31)]
    pace = measured(*slow_then_fast)
    assert pace.rate == 1000
    assert pace.seconds_left == pytest.approx(69)


def test_a_pause_between_two_measurements_leaves_them_both() -> None:
    assert measured((0, 0, 1000), (500, 100, 900)).rate == 0.2
    assert measured((0, 0, 1000), (500, 100, 900), (1000, 300, 700)).rate == pytest.approx(0.4)


def test_what_was_thrown_back_is_measured_anew() -> None:
    pace = measured((100, 500, 500), (101, 600, 400), (102, 0, 1000))
    assert (pace.rate, pace.seconds_left) == (None, None)
    pace.add(104, 100, 900)
    assert (pace.rate, pace.seconds_left) == (50, 18)


def test_a_clock_that_stands_still_says_nothing() -> None:
    assert measured((100, 0, 10), (100, 5, 5)).rate is None
