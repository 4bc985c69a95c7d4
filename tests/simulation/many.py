"""Plays many seeds, on every core."""

import multiprocessing
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from tests.simulation.mutants import mutated
from tests.simulation.plan import make_plan
from tests.simulation.play import play

_SEEDS_AT_ONCE = 10
_broken = ExitStack()  # for as long as the process lives: a context that nobody holds would mend its rule again


def play_all(seeds: Iterable[int], processes: int, mutant: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield (seed, problems) as they come, with the named rule broken if one is named."""
    if processes == 1:
        with mutated(mutant):
            yield from map(_play, seeds)
        return
    # spawned, not forked: a fork would copy the threads' locks of the libraries in whatever state they are
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, _enter, (mutant,)) as pool:
        yield from pool.imap_unordered(_play, seeds, chunksize=_SEEDS_AT_ONCE)


def _enter(mutant: str | None) -> None:
    _broken.enter_context(mutated(mutant))


def _play(seed: int) -> tuple[int, list[str]]:
    return seed, play(make_plan(seed)).problems
