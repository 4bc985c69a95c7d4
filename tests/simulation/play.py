"""Plays a plan to its end and says what is wrong then."""

import logging
import random as global_random
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import structlog

from audience_core.kafka.producer import Outgoing
from audience_core.topics import CHANGES
from tests.simulation.checks import differences, listing_differences
from tests.simulation.clock import Clock
from tests.simulation.faults import Faults
from tests.simulation.plan import STEPS, Change, Erase, Item, Plan, Poison, Subscribe
from tests.simulation.scheduler import Note, Scheduler
from tests.simulation.senders import Senders
from tests.simulation.world import COMPARE_EVERY_S, World

_MOST_STEPS = 40_000
_SETTLE_S = 3.0
"""the indexer takes the shards' counts, and compares with them after this"""
_TURNS = 40
"""steps in which everybody has a turn or several"""


@dataclass(frozen=True)
class Outcome:
    """What a plan led to. `problems` is empty when every promise was kept; `steps` is how long it took."""

    problems: list[str]
    trace: list[Note]
    steps: int


def play(plan: Plan) -> Outcome:
    """Run a plan. The same plan leads to the same outcome, as long as PYTHONHASHSEED is the same."""
    clock = Clock()
    global_random.seed(plan.seed)  # jitter of the services' own retries
    with clock.installed(), _quiet():
        world = World(Random(plan.seed), clock)
        try:
            problems = _Play(world).run(plan)
        except Exception as error:  # noqa: BLE001 - whatever a service raises is a finding of this plan
            problems = [f"raised: {type(error).__name__}: {error}", traceback.format_exc()]
        finally:
            world.scheduler.close()
    return Outcome(problems, world.scheduler.trace, world.scheduler.step_number)


@contextmanager
def _quiet() -> Iterator[None]:
    """No logs: thousands of faults are expected."""
    before = structlog.get_config()
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent, cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)


class _Play:
    def __init__(self, world: World) -> None:
        self._world = world
        self._scheduler: Scheduler = world.scheduler
        self._senders = Senders(world)
        self._faults = Faults(world, self._senders)

    def run(self, plan: Plan) -> list[str]:
        items = list(plan.items)
        self._world.broker.counts_get_lost = plan.counts_get_lost
        while items or self._scheduler.step_number < STEPS:
            while items and items[0].at <= self._scheduler.step_number:
                self._begin(items.pop(0))
            self._faults.pass_over()
            self._scheduler.run_one()
        self._faults.end()
        if not self._comes_to_rest():
            return [f"no rest: after {_MOST_STEPS} steps {self._senders.waiting} messages wait"]
        late = [] if plan.counts_get_lost else listing_differences(self._world, self._senders)
        for seconds in (COMPARE_EVERY_S, _SETTLE_S):
            self._world.clock.sleep(seconds)
            self._go_on(2 * _TURNS)
        return late + differences(self._world, self._senders)

    def _begin(self, item: Item) -> None:
        if isinstance(item, Change):
            self._senders.change(item)
        elif isinstance(item, Subscribe):
            self._senders.subscribe(item)
        elif isinstance(item, Erase):
            self._senders.erase(item)
        elif isinstance(item, Poison):
            self._world.broker.append(Outgoing(CHANGES, item.shard, b"", b"poison"))
        else:
            self._faults.happen(item)

    def _comes_to_rest(self) -> bool:
        """Wait until all is told and seconds have passed since; False when that never comes."""
        calm = 0
        while calm < 3:
            if self._scheduler.step_number > _MOST_STEPS:
                return False
            self._go_on(2 * _TURNS)
            calm = calm + 1 if self._senders.waiting == 0 and self._world.at_rest() else 0
            self._world.clock.sleep(1)
        return True

    def _go_on(self, steps: int) -> None:
        for _ in range(steps):
            self._scheduler.run_one()
