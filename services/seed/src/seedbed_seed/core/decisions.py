"""What the coordinator is told, and what it answers: its events, its settings, its decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from seedbed.ids import Epoch, Incarnation, NodeId
from seedbed.routing import ShardTable
from seedbed_seed.core.allocation import LeastLoaded, Strategy
from seedbed_seed.core.membership import Worker
from seedbed_seed.core.orders import Orders

Evidence: TypeAlias = Literal["durable", "all", "off"]


@dataclass(frozen=True, slots=True)
class RebalanceSettings:
    """A rebalance is looked at every `interval_ns`. It begins if (max - min) / mean load is above
    `threshold` and a move lowers it; it moves `max_moves` shards at once, and none that has moved
    within `cooling_ns`."""

    interval_ns: int = 10_000_000_000
    threshold: float = 0.1
    max_moves: int = 64
    cooling_ns: int = 60_000_000_000


@dataclass(frozen=True, slots=True)
class CoordinatorSettings:
    """`ttl_ns` is what is assumed of a worker whose record was never seen."""

    ttl_ns: int = 5_000_000_000
    min_workers: int = 1
    evidence: Evidence = "durable"
    strategy: Strategy = field(default_factory=LeastLoaded)
    handoff_timeout_ms: int = 10_000
    rebalance: RebalanceSettings = field(default_factory=RebalanceSettings)


# Events.


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker's record was written."""

    worker: Worker


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """A worker's record was deleted, or its lease ended."""

    node_id: NodeId
    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class TableSeen:
    """A table was written; `table.revision` is the store's."""

    table: ShardTable


@dataclass(frozen=True, slots=True)
class TableGone:
    """A table was deleted."""

    type: str
    chunk: int


@dataclass(frozen=True, slots=True)
class ContractSeen:
    """A type exists; `role` is the role of the workers that host it (empty: any)."""

    type: str
    shard_count: int
    role: str


@dataclass(frozen=True, slots=True)
class Synced:
    """All there is at one revision: first, after a gap of the watch, and after a restore."""

    workers: tuple[Worker, ...]
    tables: tuple[ShardTable, ...]
    contracts: tuple[ContractSeen, ...]
    orders: Orders = field(default_factory=Orders)
    restored: bool = False


@dataclass(frozen=True, slots=True)
class OrdersSeen:
    """The operators' orders were written."""

    orders: Orders


class ShardMove(NamedTuple):
    """An order: this shard to this node."""

    type: str
    shard: int
    to: NodeId


@dataclass(frozen=True, slots=True)
class MovesOrdered:
    """Hand these shards off, each once; `Coordinator.why_not` says if that cannot be."""

    moves: tuple[ShardMove, ...]


@dataclass(frozen=True, slots=True)
class EpochReported:
    """A worker was shown a higher epoch of its shard than the newest table names."""

    type: str
    shard: int
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Elected:
    """This seed leads, and its watch has delivered the revision of its election."""


@dataclass(frozen=True, slots=True)
class Deposed:
    """This seed leads no more; the answer to a Persist under way means nothing any more."""


@dataclass(frozen=True, slots=True)
class Persisted:
    """The Persist under way was carried out, at this revision of the store."""

    revision: int


@dataclass(frozen=True, slots=True)
class PersistFailed:
    """The Persist under way was refused by a guard, did not reach the store, or is in doubt."""


Seen: TypeAlias = (
    WorkerSeen | WorkerGone | TableSeen | TableGone | ContractSeen | OrdersSeen | Synced
)
"""What the watch delivers."""

Event: TypeAlias = (
    Seen | EpochReported | MovesOrdered | Elected | Deposed | Persisted | PersistFailed
)

# Commands.


@dataclass(frozen=True, slots=True)
class Persist:
    """Write these tables in one transaction, if this seed leads and every guard holds.

    A table's `revision` is that of the table it was decided from (0: there was none). `gone` names
    lost members' records: their keys' create revisions must not be these.
    """

    tables: tuple[ShardTable, ...]
    gone: tuple[tuple[NodeId, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write now, and when to ask again if nothing happens before."""

    persist: Persist | None = None
    wake_at_ns: int | None = None


class PlannedMove(NamedTuple):
    """A move that a rebalance would make."""

    type: str
    shard: int
    source: NodeId
    to: NodeId


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rebalance would move now. `spreads` has each type's (max - min) / mean load, now and
    after these moves. `held_back` says why nothing is moved by itself now (empty: it is)."""

    moves: tuple[PlannedMove, ...]
    spreads: Mapping[str, tuple[float, float]]
    held_back: str = ""
