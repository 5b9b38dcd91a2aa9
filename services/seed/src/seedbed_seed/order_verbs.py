"""`Admin`'s verbs that change the standing orders: any seed carries them out.

Each answers once this seed's view shows the order, so that who asks the same seed next sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableSequence
from dataclasses import dataclass

from seedbed.errors import CallError, Reason
from seedbed.transport import ServerCall
from seedbed.v1 import admin_pb2, store_pb2
from seedbed_seed import listings
from seedbed_seed.cluster_view import ClusterView
from seedbed_seed.listings import TableOf
from seedbed_seed.order_book import Edit, OrderBook
from seedbed_seed.targets import bad_request, check_name, check_shards, check_worker

MAX_REASON = 500
"""Characters of a freeze's reason."""

SHOWN_S = 2.0
"""How long an answer waits for the order to come back through the watch."""


@dataclass(frozen=True, slots=True)
class OrderLimits:
    """How many orders may stand."""

    pins: int = 10_000
    """SEEDBED_ORDERED_PINS: shards that may be pinned."""
    nodes: int = 1_000
    """SEEDBED_ORDERED_NODES: nodes that may be cordoned or draining, be they there or not."""


class OrderVerbs:
    """Drain, Cordon, Uncordon, PinShards, Freeze and Unfreeze."""

    def __init__(
        self, view: ClusterView, orders: OrderBook, table_of: TableOf, limits: OrderLimits
    ) -> None:
        self._view = view
        self._orders = orders
        self._table_of = table_of
        self._limits = limits

    async def drain(
        self, call: ServerCall, asked: admin_pb2.DrainRequest
    ) -> admin_pb2.DrainResponse:
        """Give the node nothing more, and hand off what it has."""
        node = check_worker(self._view, asked.node_id)

        def edit(orders: store_pb2.Orders) -> None:
            self._name(node, orders.draining, orders)

        await self._change(edit)
        return admin_pb2.DrainResponse(
            member=listings.worker(self._view, node), note=self._drain_note(node)
        )

    async def cordon(
        self, call: ServerCall, asked: admin_pb2.CordonRequest
    ) -> admin_pb2.CordonResponse:
        """Give the node nothing more."""
        node = check_worker(self._view, asked.node_id)

        def edit(orders: store_pb2.Orders) -> None:
            self._name(node, orders.cordoned, orders)

        await self._change(edit)
        return admin_pb2.CordonResponse(member=listings.worker(self._view, node))

    async def uncordon(
        self, call: ServerCall, asked: admin_pb2.UncordonRequest
    ) -> admin_pb2.UncordonResponse:
        """Take back Drain and Cordon."""
        node = check_worker(self._view, asked.node_id)

        def edit(orders: store_pb2.Orders) -> None:
            for named in (orders.cordoned, orders.draining):
                if node in named:
                    named.remove(node)

        await self._change(edit)
        return admin_pb2.UncordonResponse(member=listings.worker(self._view, node))

    async def pin(
        self, call: ServerCall, asked: admin_pb2.PinShardsRequest
    ) -> admin_pb2.PinShardsResponse:
        """Pin shards to a node, be it there or not; an empty node unpins them."""
        shards = check_shards(self._view, asked.type, asked.shards)
        node = check_name(asked.node_id) if asked.node_id else ""

        def edit(orders: store_pb2.Orders) -> None:
            pins = {(pin.type, pin.shard): pin.node_id for pin in orders.pins}
            for shard in shards:
                if node:
                    pins[asked.type, shard] = node
                else:
                    pins.pop((asked.type, shard), None)
            if node and len(pins) > self._limits.pins:
                raise CallError(
                    Reason.OVERLOADED,
                    f"{len(pins)} shards would be pinned, and {self._limits.pins} may be"
                    " (SEEDBED_ORDERED_PINS): unpin others first",
                )
            del orders.pins[:]
            orders.pins.extend(
                store_pb2.Pin(type=type_, shard=shard, node_id=to)
                for (type_, shard), to in sorted(pins.items())
            )

        await self._change(edit)
        found = listings.some_shards(self._view, self._table_of, asked.type, shards)
        return admin_pb2.PinShardsResponse(shards=found)

    async def freeze(
        self, call: ServerCall, asked: admin_pb2.FreezeRequest
    ) -> admin_pb2.FreezeResponse:
        """Rebalance nothing until Unfreeze; a second Freeze has a new reason."""
        if len(asked.reason) > MAX_REASON:
            raise bad_request(f"a reason has at most {MAX_REASON} characters")

        def edit(orders: store_pb2.Orders) -> None:
            orders.frozen, orders.frozen_reason = True, asked.reason

        await self._change(edit)
        return admin_pb2.FreezeResponse()

    async def unfreeze(
        self, call: ServerCall, asked: admin_pb2.UnfreezeRequest
    ) -> admin_pb2.UnfreezeResponse:
        """Rebalance again."""

        def edit(orders: store_pb2.Orders) -> None:
            orders.frozen, orders.frozen_reason = False, ""

        await self._change(edit)
        return admin_pb2.UnfreezeResponse()

    def _name(self, node: str, named: MutableSequence[str], orders: store_pb2.Orders) -> None:
        """Add the node to those that are named."""
        standing = {*orders.cordoned, *orders.draining}
        if node not in standing and len(standing) >= self._limits.nodes:
            raise CallError(
                Reason.OVERLOADED,
                f"{len(standing)} nodes are cordoned or draining, and {self._limits.nodes} may be"
                " (SEEDBED_ORDERED_NODES): uncordon those that are gone",
            )
        if node not in named:
            named.append(node)

    async def _change(self, edit: Edit) -> None:
        revision = await self._orders.change(edit)
        try:
            async with asyncio.timeout(SHOWN_S):
                await self._view.reached(revision)
        except TimeoutError:
            pass  # The order stands; only what is answered beside it may be older.

    def _drain_note(self, node: str) -> str:
        stuck = sorted(type_ for stuck, type_ in self._view.coordinator.stuck() if stuck == node)
        if not stuck:
            return ""
        return (
            f"nowhere to go for shards of {', '.join(stuck)}: no other worker may be given them"
            " now. They stay and are served, and go as soon as one may (start another worker, or"
            " uncordon one)"
        )
