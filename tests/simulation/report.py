"""Puts a failing plan into as few words as explain it."""

from dataclasses import replace
from typing import Any

from tests.simulation.plan import Plan
from tests.simulation.play import Outcome, play
from tests.simulation.scheduler import Note
from tests.simulation.world import CODEC

_MOST_PLAYS = 400
_UNTOLD = {"account", "name", "description", "settings", "identities", "opened_at", "received_at"}


def shrink(plan: Plan, problem: str) -> tuple[Plan, Outcome]:
    """Leave out every item without which the same kind of problem still shows (delta debugging)."""
    kind, plays = problem.split(":", maxsplit=1)[0], 0
    outcome = play(plan)
    size = len(plan.items) // 2
    while size >= 1 and plays < _MOST_PLAYS:
        first, smaller = 0, False
        while first < len(plan.items) and plays < _MOST_PLAYS:
            tried = replace(plan, items=plan.items[:first] + plan.items[first + size :])
            plays += 1
            result = play(tried)
            if result.problems and result.problems[0].split(":")[0] == kind:
                plan, outcome, smaller = tried, result, True
            else:
                first += size
        size = size if smaller and size == 1 else size // 2
    return plan, outcome


def describe(plan: Plan, outcome: Outcome) -> str:
    """The problems, what had to happen for them, and what happened then."""
    return "\n".join(
        [
            f"seed {plan.seed}: {len(outcome.problems)} problems",
            *(f"  {problem}" for problem in outcome.problems),
            f"needs {len(plan.items)} of its items:",
            *(f"  {item}" for item in plan.items),
            "trace (step, process, what happened):",
            *(f"  {_note(note)}" for note in outcome.trace),
            f"play it again: python -m tests.simulation --seed {plan.seed}",
        ]
    )


def _note(note: Note) -> str:
    step, process, what = note
    return f"{step:5} {process:20} {_record(*what[1:]) if what[0] == 'kafka' else ' '.join(map(str, what))}"


def _record(partition: int, offset: int, value: bytes) -> str:
    try:
        kind, record = CODEC.decode(value)
    except Exception as error:  # noqa: BLE001 - poison is written on purpose
        return f"kafka: {partition}/{offset} {error}"
    told: dict[str, Any] = {name: content for name, content in record.items() if name not in _UNTOLD}
    return f"kafka: {partition}/{offset} {kind} {told}"
