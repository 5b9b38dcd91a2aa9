"""How shards of one type are evened out: a pure plan from loads, so that it can be shown first.

Theory. A worker's load is its number of shards of the type. A move goes from the fullest to the
emptiest of those that may be given shards, while they are two apart or more: so max - min falls
until it is at most one. A worker that was given one has at most one more than the emptiest, which
never gets emptier; so it gives none away, no shard moves twice, and the plan ends.

Which of the fullest's shards moves is decided by request rates: the one that brings the two
workers' rates closest together, then the first by number. Equal loads give equal plans.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from seedbed.ids import NodeId


@dataclass(slots=True)
class Load:
    """A worker that owns shards of the type, or may be given some (`takes`).

    `shards` counts those on their way to it. `movable` are those that may leave it, each with its
    calls per second; `rate` is that of all of them.
    """

    node_id: NodeId
    takes: bool
    shards: int
    rate: float = 0.0
    movable: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])


def spread(loads: Iterable[Load]) -> float:
    """(max - min) / mean load; 0 if nobody may be given shards."""
    found = list(loads)
    takers = [load.shards for load in found if load.takes]
    total = sum(load.shards for load in found)
    if not takers or not total:
        return 0.0
    return (max(load.shards for load in found) - min(takers)) * len(found) / total


def even_out(loads: Iterable[Load], limit: int) -> list[tuple[int, NodeId, NodeId]]:
    """At most `limit` moves: shard, from, to. The loads become what they are after the moves."""
    found = sorted(loads, key=lambda load: load.node_id)
    for load in found:
        load.movable.sort()
    moves: list[tuple[int, NodeId, NodeId]] = []
    while len(moves) < limit:
        emptiest = min((load for load in found if load.takes), key=_shards, default=None)
        if emptiest is None:
            break
        givers = (load for load in found if load.movable and load.shards >= emptiest.shards + 2)
        fullest = max(givers, key=_shards, default=None)
        if fullest is None:
            break
        rate, shard = _best(fullest, emptiest)
        fullest.movable.remove((rate, shard))
        fullest.shards -= 1
        emptiest.shards += 1
        fullest.rate -= rate
        emptiest.rate += rate
        moves.append((shard, fullest.node_id, emptiest.node_id))
    return moves


def _shards(load: Load) -> int:
    return load.shards


def _best(fullest: Load, emptiest: Load) -> tuple[float, int]:
    """The shard whose move brings the rates of the two closest together."""
    wanted = (fullest.rate - emptiest.rate) / 2
    place = bisect_left(fullest.movable, (wanted, 0))
    near = fullest.movable[place : place + 1]
    if place:
        below = fullest.movable[place - 1][0]
        near.append(fullest.movable[bisect_left(fullest.movable, (below, 0))])
    return min(near, key=lambda one: (abs(one[0] - wanted), one[1]))
