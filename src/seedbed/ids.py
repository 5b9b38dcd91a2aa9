"""Identifiers that must not be mixed up."""

from __future__ import annotations

from typing import NewType

NodeId = NewType("NodeId", str)
"""Name of a node, unique per role; a restart keeps it."""

Incarnation = NewType("Incarnation", str)
"""One start (or rejoin) of a process: owners are incarnations, never nodes."""

Generation = NewType("Generation", int)
"""Version of an allocation table; only ever rises."""

Epoch = NewType("Epoch", int)
"""Fence of a shard: the generation of the write that gave it its owner."""

NO_EPOCH = Epoch(0)
NO_GENERATION = Generation(0)
