"""What the watch shows beside membership, told once by each seed: who leads, orders, stuck drains,
and where shards go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from seedbed.clock import Clock
from seedbed.ids import Incarnation, NodeId
from seedbed.routing import ShardTable
from seedbed.v1 import admin_pb2
from seedbed_seed.cluster_view import ClusterView, ViewChange
from seedbed_seed.core.orders import Orders

log = logging.getLogger(__name__)

K = TypeVar("K")

Tell = Callable[[admin_pb2.Event], None]


class ClusterStory:
    """Compares the view with what it last told."""

    def __init__(self, view: ClusterView, clock: Clock, tell: Tell) -> None:
        self._view = view
        self._tell = tell
        self._leader = ""
        self._orders: Orders | None = None
        self._stuck: frozenset[tuple[NodeId, str]] = frozenset()
        self._moves = MoveStory(clock, tell, self._node_of)
        view.listen(self._changed)

    def _changed(self, change: ViewChange) -> None:
        self._tell_leader()
        self._tell_orders()
        self._moves.seen(change)
        self._tell_stuck()

    def _tell_leader(self) -> None:
        leader = self._view.leader()
        if leader != self._leader:
            message = f"{leader} leads" if leader else "no seed leads"
            self._tell(
                admin_pb2.Event(kind=admin_pb2.EVENT_KIND_LEADER, node_id=leader, message=message)
            )
            self._leader = leader

    def _tell_orders(self) -> None:
        old, new = self._orders, self._view.orders
        self._orders = new
        if old is None or old == new:
            return  # (What this seed finds when it starts is no news.)
        words: Final = (
            (new.draining - old.draining, "is to drain"),
            (old.draining - new.draining, "is to drain no more"),
            (new.cordoned - old.cordoned, "is cordoned"),
            (old.cordoned - new.cordoned, "is cordoned no more"),
        )
        for nodes, word in words:
            for node in sorted(nodes):
                self._order(f"{node} {word}", node_id=node)
        changed = [
            (type_, new.pins.get((type_, shard), NodeId("")), shard)
            for type_, shard in {*old.pins, *new.pins}
            if old.pins.get((type_, shard)) != new.pins.get((type_, shard))
        ]
        for (type_, node), shards in _grouped(((t, n), s) for t, n, s in changed).items():
            word = f"pinned to {node}" if node else "pinned no more"
            self._order(
                f"{counted(type_, shards)} {word}", type_=type_, shards=shards, node_id=node
            )
        if (old.frozen, old.frozen_reason) != (new.frozen, new.frozen_reason):
            reason = f": {new.frozen_reason}" if new.frozen_reason else ""
            self._order(f"rebalancing is frozen{reason}" if new.frozen else "rebalancing goes on")

    def _order(
        self, message: str, *, node_id: str = "", type_: str = "", shards: Iterable[int] = ()
    ) -> None:
        self._tell(
            admin_pb2.Event(
                kind=admin_pb2.EVENT_KIND_ORDER,
                node_id=node_id,
                type=type_,
                shards=shards,
                message=message,
            )
        )

    def _tell_stuck(self) -> None:
        stuck = self._view.coordinator.stuck()
        for node, type_ in sorted(stuck - self._stuck):
            log.warning("drain stuck", extra={"node": node, "type": type_})
            self._tell(
                admin_pb2.Event(
                    kind=admin_pb2.EVENT_KIND_STUCK,
                    node_id=node,
                    type=type_,
                    message=f"{node} drains, and no other worker may be given its shards of"
                    f" {type_}: start another worker, or uncordon one",
                )
            )
        self._stuck = stuck

    def _node_of(self, incarnation: Incarnation) -> str:
        members = (known.record.member for known in self._view.workers.values())
        return next((m.node_id for m in members if m.incarnation == incarnation), incarnation)


class MoveStory:
    """Hand-offs and new owners, from each table and the one before it."""

    def __init__(self, clock: Clock, tell: Tell, node_of: Callable[[Incarnation], str]) -> None:
        self._clock = clock
        self._tell = tell
        self._node_of = node_of
        self._tables: dict[tuple[str, int], ShardTable] = {}
        self._begun_ns: dict[tuple[str, int], int] = {}
        self._synced = False

    def seen(self, change: ViewChange) -> None:
        """Tell what these tables change."""
        now_ns = self._clock.now_ns()
        if change.snapshot:
            named = {(table.type, table.chunk) for table in change.tables}
            for key in self._tables.keys() - named:
                del self._tables[key]
        for table in change.tables:
            key = (table.type, table.chunk)
            before = self._tables.get(key)
            if before is not table:
                self._begun(before, table, now_ns)
                if self._synced:
                    self._moved(before, table, now_ns)
            self._tables[key] = table
        self._synced = True

    def _begun(self, before: ShardTable | None, table: ShardTable, now_ns: int) -> None:
        begun: list[tuple[tuple[str, str], int]] = []
        for shard, handoff in table.handoffs.items():
            known = before.handoffs.get(shard) if before is not None else None
            if known is None or (before and _epoch(before, shard) != _epoch(table, shard)):
                self._begun_ns[table.type, shard] = now_ns
                begun.append(((_owner(table, shard), self._node_of(handoff.to)), shard))
        for (source, to), shards in _grouped(begun).items() if self._synced else ():
            self._tell(
                admin_pb2.Event(
                    kind=admin_pb2.EVENT_KIND_MOVE_BEGUN,
                    type=table.type,
                    shards=shards,
                    from_node=source,
                    to_node=to,
                    message=f"{counted(table.type, shards)} on the way from {source} to {to}",
                )
            )

    def _moved(self, before: ShardTable | None, table: ShardTable, now_ns: int) -> None:
        moved: list[tuple[tuple[str, str, bool], int]] = []
        took_ms: dict[int, int] = {}
        for shard in range(table.first_shard, table.first_shard + len(table.owner)):
            handed_off = before is not None and shard in before.handoffs
            old = before.owner_of(shard) if before is not None else None
            new = table.owner_of(shard)
            if before is not None and _epoch(before, shard) == _epoch(table, shard):
                continue
            if new == old and not handed_off:
                continue
            if handed_off:
                began_ns = self._begun_ns.pop((table.type, shard), now_ns)
                took_ms[shard] = (now_ns - began_ns) // 1_000_000
            moved.append(
                ((old.node_id if old else "", new.node_id if new else "", handed_off), shard)
            )
        for (source, to, handed_off), shards in _grouped(moved).items():
            took = max((took_ms[shard] for shard in shards), default=0) if handed_off else 0
            self._tell(
                admin_pb2.Event(
                    kind=admin_pb2.EVENT_KIND_MOVED,
                    type=table.type,
                    shards=shards,
                    from_node=source,
                    to_node=to,
                    took_ms=took,
                    message=_moved_text(counted(table.type, shards), source, to, handed_off, took),
                )
            )


def _moved_text(what: str, source: str, to: str, handed_off: bool, took_ms: int) -> str:
    took = f" in {took_ms} ms" if handed_off else ""
    if not to:
        return f"{what} of {source} without owner"
    if source == to and handed_off:
        return f"{what} stayed on {to}{took}: nobody else could be given them"
    return f"{what} moved from {source or 'nobody'} to {to}{took}"


def counted(type_: str, shards: list[int]) -> str:
    """`cup: 1 shard`, for people."""
    return f"{type_}: shard {shards[0]}" if len(shards) == 1 else f"{type_}: {len(shards)} shards"


def _owner(table: ShardTable, shard: int) -> str:
    owner = table.owner_of(shard)
    return owner.node_id if owner is not None else ""


def _epoch(table: ShardTable, shard: int) -> int:
    return table.epoch[shard - table.first_shard]


def _grouped(pairs: Iterable[tuple[K, int]]) -> dict[K, list[int]]:
    groups: dict[K, list[int]] = {}
    for key, shard in sorted(pairs, key=lambda pair: pair[1]):
        groups.setdefault(key, []).append(shard)
    return groups
