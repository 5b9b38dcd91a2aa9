"""What operators have ordered: it stands in the store until they take it back, whoever leads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from seedbed.ids import NodeId


@dataclass(frozen=True, slots=True)
class Orders:
    """Orders name nodes and not incarnations: a restart ends none.

    A cordoned node is given nothing more; a draining one is cordoned too, and loses what it has.
    `pins` says to which node a shard of a type belongs whenever that node is up.
    """

    cordoned: frozenset[NodeId] = frozenset()
    draining: frozenset[NodeId] = frozenset()
    pins: Mapping[tuple[str, int], NodeId] = field(default_factory=dict[tuple[str, int], NodeId])
    frozen: bool = False
    frozen_reason: str = ""
