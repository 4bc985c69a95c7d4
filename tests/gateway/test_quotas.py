"""A quota is kept over any time, lets bursts through, and belongs to one account."""

from hypothesis import given
from hypothesis import strategies as st

from ingest_gateway.quotas import Quotas, changes_in

RATE, BURST = 10.0, 50.0
MESSAGES = st.lists(st.tuples(st.floats(0, 20), st.integers(0, 120)), max_size=60)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(MESSAGES)
def test_what_is_granted_never_exceeds_the_rate_and_the_burst_by_more_than_one_message(
    messages: list[tuple[float, int]],
) -> None:
    clock = Clock()
    quotas = Quotas(RATE, BURST, clock)
    granted = largest = 0
    for pause, changes in messages:
        clock.now += pause
        if quotas.take("a", changes) == 0:
            granted += changes
            largest = max(largest, changes)
        assert granted <= BURST + RATE * clock.now + largest + 1e-6


@given(MESSAGES)
def test_after_the_seconds_that_were_named_the_message_is_granted(messages: list[tuple[float, int]]) -> None:
    clock = Clock()
    quotas = Quotas(RATE, BURST, clock)
    for pause, changes in messages:
        clock.now += pause
        seconds = quotas.take("a", changes)
        if seconds:
            clock.now += seconds + 0.001
            assert quotas.take("a", changes) == 0


def test_accounts_do_not_share_a_bucket_and_0_is_no_limit() -> None:
    quotas = Quotas(1, 1, Clock())
    assert quotas.take("a", 1000) == 0
    assert quotas.take("a", 1) == 999
    assert quotas.take("b", 1) == 0
    unlimited = Quotas(0, 0, Clock())
    assert all(unlimited.take("a", 10**9) == 0 for _ in range(10))


def test_every_item_counts_and_a_malformed_profile_counts_as_one() -> None:
    assert changes_in([{"audiences": [1, 2, 3]}, {"audiences": []}, {}, None, {"audiences": "x"}, "text"]) == 8
