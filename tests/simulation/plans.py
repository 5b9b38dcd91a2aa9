"""What happens in a run, and when: at random, or biased towards one way to break a promise."""

from __future__ import annotations

from random import Random

from tests.simulation.fault import (
    GENTLE_WEIGHTS,
    HARSH_WEIGHTS,
    Faults,
    Kind,
    Plan,
    any_fault,
)
from tests.simulation.kernel import SECOND
from tests.simulation.plans_losses import (
    cut_off,
    deaf_store,
    emptied,
    frozen_leader,
    frozen_turn,
    gone_back,
    gone_back_unseen,
    half_resumed,
    heard_again,
    left_stream,
    moves_unseen,
    quick_restarts,
    slow_acks,
)
from tests.simulation.plans_movement import GENTLE_PLANS, TROUBLED

BIASED: list[Plan] = [
    cut_off,
    frozen_leader,
    deaf_store,
    slow_acks,
    frozen_turn,
    quick_restarts,
    moves_unseen,
    heard_again,
    left_stream,
    half_resumed,
    gone_back,
    gone_back_unseen,
    emptied,
    *GENTLE_PLANS,
    *TROUBLED,
]


def anything(random: Random) -> Faults:
    """In one of six runs only what operators do every day; else a dozen things of any kinds, of
    which one at least is trouble, and in every other run one of the biased plans beside them."""
    if random.random() < 1 / 6:
        return random.choice(GENTLE_PLANS)(random)
    both = HARSH_WEIGHTS | GENTLE_WEIGHTS
    faults: Faults = []
    for n in range(random.randrange(4, 14)):
        weights: dict[Kind, float] = both if n else HARSH_WEIGHTS
        kind = random.choices(list(weights), list(weights.values()))[0]
        faults.append((random.randrange(20 * SECOND), any_fault(random, kind, 2.0)))
    if random.random() < 0.5:
        faults += random.choice(BIASED)(random)
    return faults
