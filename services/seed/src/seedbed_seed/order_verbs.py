"""`Admin`'s verbs that change the standing orders: any seed carries them out.

Each answers once this seed's view shows the order, so that who asks the same seed next sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableSequence

from seedbed.transport import ServerCall
from seedbed.v1 import admin_pb2, store_pb2
from seedbed_seed import listings
from seedbed_seed.cluster_view import ClusterView
from seedbed_seed.listings import TableOf
from seedbed_seed.order_book import Edit, OrderBook
from seedbed_seed.targets import bad_request, check_name, check_shards, check_worker

MAX_PINS = 10_000
"""Shards that may be pinned."""

MAX_NODES = 1_000
"""Nodes that may be cordoned or draining, be they there or not."""

MAX_REASON = 500
"""Characters of a freeze's reason."""

SHOWN_S = 2.0
"""How long an answer waits for the order to come back through the watch."""


class OrderVerbs:
    """Drain, Cordon, Uncordon, PinShards, Freeze and Unfreeze."""

    def __init__(self, view: ClusterView, orders: OrderBook, table_of: TableOf) -> None:
        self._view = view
        self._orders = orders
        self._table_of = table_of

    async def drain(
        self, call: ServerCall, asked: admin_pb2.DrainRequest
    ) -> admin_pb2.DrainResponse:
        """Give the node nothing more, and hand off what it has."""
        node = check_worker(self._view, asked.node_id)

        def edit(orders: store_pb2.Orders) -> None:
            _add(orders.draining, node)

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
            _add(orders.cordoned, node)

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
            if node and len(pins) > MAX_PINS:
                raise bad_request(
                    f"{len(pins)} shards would be pinned, and {MAX_PINS} may be: unpin others first"
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

    async def _change(self, edit: Edit) -> None:
        def bounded(orders: store_pb2.Orders) -> None:
            edit(orders)
            nodes = len({*orders.cordoned, *orders.draining})
            if nodes > MAX_NODES:
                raise bad_request(
                    f"{nodes} nodes would be cordoned or draining, and {MAX_NODES} may be: uncordon"
                    " those that are gone"
                )

        revision = await self._orders.change(bounded)
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


def _add(nodes: MutableSequence[str], node: str) -> None:
    if node not in nodes:
        nodes.append(node)
