"""Too much poison stops the worker."""

import pytest

from audience_core.errors import PoisonLimitExceeded
from membership_worker.decode import PoisonLimit


def test_a_share_of_poison_over_the_limit_stops_the_worker_and_says_what_to_do() -> None:
    limit = PoisonLimit(0.1, 1000)
    limit.add(0, 100)
    limit.add(11, 11)
    with pytest.raises(PoisonLimitExceeded, match="dlq list"):
        limit.add(1, 1)


def test_a_little_poison_and_a_few_first_records_do_not_stop_it() -> None:
    limit = PoisonLimit(0.1, 1000)
    for _ in range(250):
        limit.add(1, 20)
    limit.add(50, 1000)
    PoisonLimit(0.1, 1000).add(1, 1)


def test_poison_alone_stops_it_after_the_least_number_of_records() -> None:
    limit = PoisonLimit(0.1, 1000)
    limit.add(99, 99)
    with pytest.raises(PoisonLimitExceeded):
        limit.add(1, 1)
