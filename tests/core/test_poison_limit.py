"""Too much poison stops the worker."""

import pytest

from audience_core.errors import PoisonLimitExceeded
from membership_worker.decode import PoisonLimit


def test_a_share_of_poison_over_the_limit_stops_the_worker_and_says_what_to_do() -> None:
    limit = PoisonLimit(0.1, 1000)
    for _ in range(100):
        limit.add(poison=False)
    for _ in range(11):
        limit.add(poison=True)
    with pytest.raises(PoisonLimitExceeded, match="dlq list"):
        limit.add(poison=True)


def test_a_little_poison_and_a_few_first_records_do_not_stop_it() -> None:
    limit = PoisonLimit(0.1, 1000)
    for number in range(5000):
        limit.add(poison=number % 20 == 0)
    PoisonLimit(0.1, 1000).add(poison=True)


def test_poison_alone_stops_it_after_the_least_number_of_records() -> None:
    limit = PoisonLimit(0.1, 1000)
    for _ in range(99):
        limit.add(poison=True)
    with pytest.raises(PoisonLimitExceeded):
        limit.add(poison=True)
