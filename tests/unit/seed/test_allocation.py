"""Placement: balanced, stepwise minimal, deterministic, quick."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from seedbed.ids import NodeId
from seedbed_seed.core.allocation import Candidate, LeastLoaded


def candidates(loads: dict[str, tuple[int, int]]) -> list[Candidate]:
    return [Candidate(NodeId(name), *load) for name, load in loads.items()]


def test_from_nothing_workers_differ_by_one_shard_at_most() -> None:
    homes = LeastLoaded().place(range(10), candidates({"a": (0, 0), "b": (0, 0), "c": (0, 0)}))
    assert sorted(Counter(homes.values()).values()) == [3, 3, 4]


def test_ties_go_to_the_least_loaded_over_all_types_then_to_the_first_name() -> None:
    some = candidates({"b": (1, 5), "a": (1, 5), "c": (1, 2)})
    assert LeastLoaded().place([7], some) == {7: "c"}
    assert LeastLoaded().place([7], some[:2]) == {7: "a"}


def test_a_valley_is_filled_before_a_hill() -> None:
    homes = LeastLoaded().place(range(4), candidates({"full": (9, 9), "new": (0, 0)}))
    assert set(homes.values()) == {"new"}


@pytest.mark.parametrize("seed", range(40))
def test_random_clusters_are_filled_evenly(seed: int) -> None:
    random = Random(seed)
    shards = random.sample(range(4096), random.randrange(1, 600))
    some = [
        Candidate(NodeId(f"w{n}"), of_type, of_type + random.randrange(50))
        for n in range(random.randrange(1, 40))
        for of_type in [random.randrange(30)]
    ]
    homes = LeastLoaded().place(shards, some)
    assert set(homes) == set(shards), f"seed {seed}: every shard has a home"
    given = Counter(homes.values())
    after = {c.node_id: c.of_type + given[c.node_id] for c in some}
    level = max(after[node] for node in given)
    # Whoever was given a shard ends at the water level; nobody else is below it.
    assert all(after[node] >= level - 1 for node in given), f"seed {seed}"
    assert min(after.values()) >= level - 1, f"seed {seed}"
    shuffled = random.sample(some, len(some))
    assert LeastLoaded().place(shards, shuffled) == homes, f"seed {seed}: order does not matter"
