"""A user's test of the order."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

from order import Order
from orders.v1 import order_pb2 as pb
from orders.v1 import order_pb2_grpc as rpc

from seedbed.testing import cluster


class FakePayments:
    def __init__(self) -> None:
        self.charged: dict[str, int] = {}

    async def charge(self, order_id: str, fence: int, cents: int) -> str:
        self.charged[order_id] = cents
        return "payment"


def test_order_is_paid_once() -> None:
    async def scenario() -> None:
        payments = FakePayments()
        async with cluster(partial(Order, payments)) as c:
            orders = rpc.OrderStub(c.channel)
            await orders.Place(pb.PlaceRequest(order_id="o", cents=100))
            await c.advance(timedelta(seconds=1))
            assert (await orders.Get(pb.OrderRef(order_id="o"))).phase == pb.PHASE_PAID
            assert payments.charged == {"o": 100}

    asyncio.run(scenario())
