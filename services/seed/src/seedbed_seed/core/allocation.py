"""Where shards without an owner go: pure strategies, so that another can be put in their place.

Theory of `LeastLoaded`. Shards are given one by one to the worker that has the fewest shards of the
type, then the fewest of all types, then the first name. From nothing that leaves any two workers at
most one shard apart; after a loss it fills the valleys. A shard that has an owner is never touched,
so nothing moves that need not, and equal inputs give equal answers on every seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from typing import Protocol

from seedbed.ids import NodeId


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker that may be given shards of a type, and how many it owns."""

    node_id: NodeId
    of_type: int
    of_all: int


class Strategy(Protocol):
    """Chooses homes. Deterministic; names only candidates; leaves no shard out."""

    def place(self, shards: Sequence[int], candidates: Sequence[Candidate]) -> Mapping[int, NodeId]:
        """A home for each of the shards of one type; `candidates` is not empty."""
        ...


class LeastLoaded:
    """Each shard to the worker with the fewest."""

    def place(self, shards: Sequence[int], candidates: Sequence[Candidate]) -> Mapping[int, NodeId]:
        heap = [(c.of_type, c.of_all, c.node_id) for c in candidates]
        heapify(heap)
        homes: dict[int, NodeId] = {}
        for shard in shards:
            of_type, of_all, node_id = heap[0]
            homes[shard] = node_id
            heapreplace(heap, (of_type + 1, of_all + 1, node_id))
        return homes
