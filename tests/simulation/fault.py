"""What can be done to a cluster, one thing at a time, and how likely each is in a run of chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias, get_args

from tests.simulation.calls import TTL_NS

Stop: TypeAlias = Literal[
    "crash worker", "crash seed", "crash leader", "pause worker", "pause loop", "pause seed",
    "pause own seed", "pause leader",
]  # fmt: skip
Hold: TypeAlias = Literal[
    "cut worker", "hold acks", "hold heartbeats", "cut store", "hold requests", "hold watch",
    "strand", "mute others", "cut leader", "deafen",
]  # fmt: skip
Disturbance: TypeAlias = Literal[
    "revoke", "break stream", "go elsewhere", "long turns", "restore", "empty",
]  # fmt: skip
Change: TypeAlias = Literal[
    "sigterm", "roll", "roll without surge", "undo", "join", "leave", "resign", "move", "cordon",
    "drain node", "pin", "freeze", "free nodes",
]  # fmt: skip
Kind: TypeAlias = Literal[Stop, Hold, Disturbance, Change]

GENTLE: frozenset[Kind] = frozenset(get_args(Change))
"""What operators do every day: nobody is to notice."""

UPDATES: frozenset[Kind] = frozenset({"roll", "roll without surge", "undo", "join", "resign"})
"""What is part of an update, or does not move shards."""

HARSH_WEIGHTS: dict[Kind, float] = {
    "crash worker": 2,
    "crash seed": 1,
    "crash leader": 1,
    "pause worker": 2,
    "pause loop": 1,
    "pause seed": 2,
    "pause leader": 1,
    "pause own seed": 1,
    "cut worker": 2,
    "cut leader": 1,
    "hold acks": 1,
    "hold heartbeats": 2,
    "strand": 1,
    "cut store": 1,
    "hold requests": 1,
    "hold watch": 2,
    "deafen": 1,
    "revoke": 3,
    "break stream": 2,
    "go elsewhere": 1,
    "long turns": 1,
    "mute others": 1,
    "restore": 0.4,
    "empty": 0.2,
}
GENTLE_WEIGHTS: dict[Kind, float] = {
    "sigterm": 3,
    "roll": 1,
    "roll without surge": 1,
    "undo": 1,
    "join": 1,
    "leave": 1,
    "resign": 1,
    "move": 6,
    "cordon": 1,
    "drain node": 2,
    "pin": 1,
    "freeze": 0.5,
    "free nodes": 2,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Some kinds use only some of the fields."""

    kind: Kind
    seed: int = 0
    worker: int = 0
    duration_ns: int = 0


Faults: TypeAlias = list[tuple[int, Fault]]
Plan: TypeAlias = Callable[[Random], Faults]


def any_fault(random: Random, kind: Kind, most_ttl: float, least: float = 0.1) -> Fault:
    """One of this kind, for so many TTLs at the most."""
    duration_ns = int(TTL_NS * random.uniform(least, most_ttl))
    return Fault(kind, random.randrange(3), random.randrange(3), duration_ns)
