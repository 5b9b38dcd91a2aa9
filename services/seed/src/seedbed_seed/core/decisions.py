"""What the coordinator is told, and what it answers: its events, its settings, its decisions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

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


Event: TypeAlias = (
    WorkerSeen
    | WorkerGone
    | TableSeen
    | TableGone
    | ContractSeen
    | Synced
    | OrdersSeen
    | EpochReported
    | Elected
    | Deposed
    | Persisted
    | PersistFailed
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
