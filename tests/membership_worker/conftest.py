"""A Kafka that nothing runs in but the case."""

from random import Random

import pytest

from tests.simulation.clock import Clock
from tests.simulation.scheduler import Scheduler
from tests.simulation.simulated_kafka import Broker


@pytest.fixture
def broker(scheduler: Scheduler) -> Broker:
    broker = Broker(scheduler, shards=1)
    broker.flaky = False
    return broker


@pytest.fixture
def scheduler() -> Scheduler:
    """One that nothing runs in: Kafka answers at once."""
    return Scheduler(Random(0), Clock())
