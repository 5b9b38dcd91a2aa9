"""Allocation tables between their wire form and the one that processes work with."""

from __future__ import annotations

from typing import cast

from seedbed.errors import ProtocolError
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.routing import Handoff, Owner, ShardTable
from seedbed.v1 import store_pb2


def to_proto(table: ShardTable) -> store_pb2.AllocationTable:
    """The table as it is written to the store and sent to others (without its revision)."""
    return store_pb2.AllocationTable(
        type=table.type,
        chunk=table.chunk,
        shard_count=table.shard_count,
        generation=table.generation,
        owners=[
            store_pb2.ShardOwner(
                node_id=owner.node_id,
                incarnation=owner.incarnation,
                host=owner.host,
                port=owner.port,
                durable=owner.durable,
            )
            for owner in table.owners
        ],
        owner=table.owner,
        epoch=table.epoch,
        handoffs=[
            store_pb2.Handoff(shard=shard, next_owner=to, timeout_ms=limit_ms)
            for shard, (to, limit_ms) in sorted(table.handoffs.items())
        ],
    )


def from_proto(message: store_pb2.AllocationTable, revision: int = 0) -> ShardTable:
    """The table that a message describes; raises `ProtocolError` if it contradicts itself."""
    table = ShardTable(
        type=message.type,
        chunk=message.chunk,
        shard_count=message.shard_count,
        generation=Generation(message.generation),
        owners=tuple(
            Owner(
                NodeId(owner.node_id),
                Incarnation(owner.incarnation),
                owner.host,
                owner.port,
                owner.durable,
            )
            for owner in message.owners
        ),
        owner=tuple(message.owner),
        # A cast, because wrapping 1,024 integers one by one would take most of the time.
        epoch=cast("tuple[Epoch, ...]", tuple(message.epoch)),
        handoffs={
            h.shard: Handoff(Incarnation(h.next_owner), h.timeout_ms) for h in message.handoffs
        },
        revision=revision,
    )
    for shard in table.handoffs:
        if not 0 <= shard - table.first_shard < len(table.owner):
            raise ProtocolError(f"table {table.type}/{table.chunk}: hand-off of shard {shard}")
    return table
