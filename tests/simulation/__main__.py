"""Run many seeds, or one with its trace: `python -m tests.simulation --seeds N [--seed K]`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.mutations import MUTATIONS
from tests.simulation.plans import anything
from tests.simulation.world import play


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=200, help="how many, from --first on")
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--seed", type=int, help="only this one, with its trace")
    options.add_argument("--mutation", choices=sorted(MUTATIONS), help="break the design so")
    given = options.parse_args()
    mutation = MUTATIONS.get(given.mutation or "")
    plan = mutation.plan if mutation is not None else anything
    seeds = range(given.first, given.first + given.seeds)
    began = time.perf_counter()
    answered = events = 0
    for seed in [given.seed] if given.seed is not None else seeds:
        traced = given.seed is not None
        if mutation is not None:
            world, violation = mutation.play(seed, traced=traced)
        else:
            world, violation = play(seed, plan, traced=traced)
        answered += world.referee.answered
        events += world.kernel.events
        for line in world.kernel.trace or ():
            print(line)
        if violation is not None:
            print(f"seed {seed}: {violation}")
            print(f"replay: python -m tests.simulation --seed {seed}", end="")
            print(f" --mutation '{given.mutation}'" if given.mutation else "")
            return 1
    seconds = time.perf_counter() - began
    print(f"no violation; {events} events, {answered} calls answered, {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
