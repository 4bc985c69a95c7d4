"""The services' own code, played against a failing Kafka and Redis, keeps every promise."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.simulation.plan import make_plan
from tests.simulation.play import play

SEEDS = 200


def simulate(*arguments: str) -> Any:
    """Run the command as one would by hand: its fixed hash seed makes every run the same."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--json", "--processes", "1", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(300)
def test_no_interleaving_of_services_and_faults_loses_invents_or_drifts() -> None:
    result = simulate("--seeds", str(SEEDS))
    assert result["failed"] == {}
    assert result["seeds"] == SEEDS


# `make mutation-check` tries all of them
@pytest.mark.parametrize("mutant", ["no-fence", "erased-comes-back", "old-epochs-counted"])
def test_a_broken_rule_is_found_soon(mutant: str) -> None:
    assert simulate("--mutant", mutant, "--seeds", "40", "--failures", "1")["failed"]


def test_a_rule_stays_broken_in_each_of_several_processes() -> None:
    found = simulate("--mutant", "no-fence", "--seeds", "40", "--failures", "1", "--processes", "2")
    assert found["failed"]


def test_a_seed_always_plays_the_same() -> None:
    first, again = play(make_plan(11)), play(make_plan(11))
    assert first.trace
    assert first == again
