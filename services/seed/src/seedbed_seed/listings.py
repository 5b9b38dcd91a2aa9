"""Members, types and shards as tools see them: the store's records with what the tables add."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from seedbed.routing import CHUNK, ShardTable
from seedbed.v1 import admin_pb2, store_pb2
from seedbed_seed.cluster_view import ClusterView, shards_by_owner
from seedbed_seed.core.orders import Orders
from seedbed_seed.entries import KnownMember

TableOf: TypeAlias = Callable[[str, int], ShardTable | None]
"""Looks up the table of a type's chunk."""


def members(view: ClusterView) -> list[store_pb2.Member]:
    """All members, seeds first, by node id, with their shards and who leads."""
    counts = shards_by_owner(view.tables.values())
    leader = view.leader()
    listed: list[store_pb2.Member] = []
    for known in (*_sorted(view.seeds), *_sorted(view.workers)):
        member = store_pb2.Member()
        member.CopyFrom(known)
        member.shards = counts.get(member.incarnation, 0)
        if member.role == store_pb2.ROLE_SEED:
            member.coordinator = member.node_id == leader
        else:
            _show_orders(member, view.orders)
        listed.append(member)
    return listed


def worker(view: ClusterView, node_id: str) -> store_pb2.Member:
    """This worker; only its name and orders if it is not there."""
    for member in members(view):
        if member.role == store_pb2.ROLE_WORKER and member.node_id == node_id:
            return member
    gone = store_pb2.Member(node_id=node_id, role=store_pb2.ROLE_WORKER)
    _show_orders(gone, view.orders)
    return gone


def _show_orders(member: store_pb2.Member, orders: Orders) -> None:
    draining = member.node_id in orders.draining
    member.cordoned = draining or member.node_id in orders.cordoned
    if draining and member.status == store_pb2.MEMBER_STATUS_UP:
        member.status = store_pb2.MEMBER_STATUS_DRAINING


def types(view: ClusterView) -> list[admin_pb2.EntityType]:
    """All types, by name, with their workers that are up."""
    listed: list[admin_pb2.EntityType] = []
    for name, known in sorted(view.contracts.items()):
        tables = [table for (type_, _), table in view.tables.items() if type_ == name]
        hosts = [
            member
            for member in view.workers.values()
            if member.record.member.status == store_pb2.MEMBER_STATUS_UP
            and any(hosted.type == name for hosted in member.record.types)
        ]
        listed.append(
            admin_pb2.EntityType(
                type=name,
                shard_count=known.contract.shard_count,
                generation=max((table.generation for table in tables), default=0),
                workers=len(hosts),
            )
        )
    return listed


def shards(view: ClusterView, table_of: TableOf, type_: str) -> list[admin_pb2.Shard]:
    """Shards of a type (empty: of all), in order; those of no table yet have no owner."""
    listed: list[admin_pb2.Shard] = []
    for name, known in sorted(view.contracts.items()):
        if type_ and name != type_:
            continue
        listed += some_shards(view, table_of, name, range(known.contract.shard_count))
    return listed


def some_shards(
    view: ClusterView, table_of: TableOf, type_: str, numbers: Iterable[int]
) -> list[admin_pb2.Shard]:
    """These shards of a type, in this order."""
    node_of = {
        known.record.member.incarnation: known.record.member.node_id
        for known in view.workers.values()
    }
    return [_shard(view.orders, table_of, type_, shard, node_of) for shard in numbers]


def _shard(
    orders: Orders, table_of: TableOf, type_: str, shard: int, node_of: dict[str, str]
) -> admin_pb2.Shard:
    table = table_of(type_, shard // CHUNK)
    pinned = orders.pins.get((type_, shard), "")
    if table is None:
        return admin_pb2.Shard(type=type_, shard=shard, pinned=pinned)
    owner = table.owner_of(shard)
    handoff = table.handoffs.get(shard)
    phase = store_pb2.SHARD_PHASE_UNSPECIFIED
    if owner is not None:
        phase = store_pb2.SHARD_PHASE_OWNED
    if handoff is not None:
        phase = store_pb2.SHARD_PHASE_HANDING_OFF
    return admin_pb2.Shard(
        type=type_,
        shard=shard,
        owner=owner.node_id if owner is not None else "",
        epoch=table.epoch[shard - table.first_shard],
        phase=phase,
        next_owner=node_of.get(handoff.to, handoff.to) if handoff is not None else "",
        pinned=pinned,
    )


def _sorted(known: dict[str, KnownMember]) -> list[store_pb2.Member]:
    return [entry.record.member for _, entry in sorted(known.items())]
