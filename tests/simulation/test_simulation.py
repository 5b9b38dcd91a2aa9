"""The true design keeps its promises on every seed; broken on purpose, it does not for long."""

from __future__ import annotations

import os

import pytest

from tests.simulation.fault import Plan
from tests.simulation.mutations import MUTATIONS
from tests.simulation.plans import BIASED, anything
from tests.simulation.world import play, search

pytestmark = pytest.mark.simulation

SEEDS = int(os.environ.get("SEEDS", "200"))
TRIES = 60
"""Runs in which a broken design must show; each shows in a few."""


@pytest.mark.timeout(60 + SEEDS)
def test_no_promise_is_broken_whatever_goes_wrong() -> None:
    found = search(range(SEEDS), anything)
    assert found is None, f"{found}; replay: python -m tests.simulation --seed {found and found[0]}"


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_a_broken_rule_is_found(name: str) -> None:
    mutation = MUTATIONS[name]
    violations = (mutation.play(seed)[1] for seed in range(TRIES))
    assert any(violation is not None for violation in violations)


@pytest.mark.parametrize("plan", BIASED, ids=lambda plan: plan.__name__)
def test_what_finds_broken_rules_finds_nothing_in_the_true_design(plan: Plan) -> None:
    assert search(range(15), plan) is None


def test_a_run_without_faults_serves_almost_every_routed_call() -> None:
    world, violation = play(1, lambda _: [])
    assert violation is None
    unserved = {call.ended for call in world.referee.calls} - {"answered"}
    assert all(how.startswith("NotHere") for how in unserved), "only direct calls may miss"


def test_a_seed_gives_the_same_history_twice() -> None:
    first, second = (play(7, anything, traced=True)[0].kernel.trace for _ in range(2))
    assert first == second
