"""What can go wrong, each as one small method."""

from collections.abc import Callable
from random import Random

from tests.simulation.plan import Fault, FaultKind
from tests.simulation.senders import Senders
from tests.simulation.world import RunningWorker, World

_LEAPS_S = (1, 10, 61, 130)
"""both sides of the ordering window and of the suppression"""


class Faults:
    """Lets faults happen and end."""

    def __init__(self, world: World, senders: Senders) -> None:
        self._world = world
        self._senders = senders
        self._until: dict[FaultKind, int] = {}
        self._do: dict[FaultKind, Callable[[Random], object]] = {
            "kill worker": self._kill_worker,
            "stop worker": self._stop_worker,
            "start worker": lambda _: world.start_worker(),
            "stall": self._stall,
            "rebalance": lambda _: world.group.rebalance(),
            "save redis": lambda _: world.redis.save(),
            "restore redis": self._restore_redis,
            "empty redis": lambda _: world.redis.empty(),
            "redis away": lambda luck: self._away("redis away", luck),
            "kafka away": lambda luck: self._away("kafka away", luck),
            "kill indexer": lambda _: world.restart_indexer(),
            "crash gateway": self._crash_gateway,
            "time passes": lambda luck: world.clock.sleep(luck.choice(_LEAPS_S)),
            "compact": lambda _: world.broker.compact(),
        }

    def happen(self, fault: Fault) -> None:
        self._world.scheduler.note(f"fault: {fault.kind}")
        self._do[fault.kind](Random(fault.luck))

    def pass_over(self) -> None:
        """End the outages whose time is over."""
        step = self._world.scheduler.step_number
        self._world.redis.down = step < self._until.get("redis away", 0)
        self._world.broker.down = step < self._until.get("kafka away", 0)

    def end(self) -> None:
        """From here on nothing fails any more, and everybody goes on."""
        self._world.scheduler.note("all faults end")
        self._until.clear()
        self.pass_over()
        self._world.redis.flaky = self._world.broker.flaky = self._world.broker.counts_get_lost = False
        for process in self._world.scheduler.processes:
            process.stalled_until = 0
        if all(worker.stopping for worker in self._world.workers):
            self._world.start_worker()

    def _a_worker(self, luck: Random) -> RunningWorker | None:
        return luck.choice(self._world.workers) if self._world.workers else None

    def _kill_worker(self, luck: Random) -> None:
        if (worker := self._a_worker(luck)) is not None:
            self._world.kill_worker(worker)

    def _stop_worker(self, luck: Random) -> None:
        if (worker := self._a_worker(luck)) is not None:
            worker.stopping = True

    def _stall(self, luck: Random) -> None:
        scheduler = self._world.scheduler
        if scheduler.processes:
            stalled = luck.choice(scheduler.processes)
            stalled.stalled_until = scheduler.step_number + luck.randrange(20, 400)
            scheduler.note(f"{stalled.name} stands still until step {stalled.stalled_until}")

    def _restore_redis(self, luck: Random) -> None:
        if self._world.redis.saved:
            self._world.redis.restore(luck.randrange(len(self._world.redis.saved)))

    def _away(self, kind: FaultKind, luck: Random) -> None:
        self._until[kind] = self._world.scheduler.step_number + luck.randrange(5, 150)

    def _crash_gateway(self, luck: Random) -> None:
        number = luck.randrange(len(self._world.gateways))
        self._world.restart_gateway(number)
        for process, of in self._senders.requests.items():
            process.doomed = process.doomed or of == number
