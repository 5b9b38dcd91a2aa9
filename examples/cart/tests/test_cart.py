"""The cart in a cluster inside this process."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from cart.entity import Cart, Event
from cart.v1 import cart_pb2 as pb
from cart.v1 import cart_pb2_grpc as pb_grpc

from seedbed.testing import Cluster, cluster


class CartOfToday(Cart):
    """A build that must read what an older one stored under other names."""

    @classmethod
    def decode(cls, name: str, data: bytes) -> pb.CartState | Event:
        if name == "cart.v1.ItemPut":  # renamed, with the same fields
            return pb.ItemAdded.FromString(data)
        return super().decode(name, data)


async def add(c: Cluster, item: str, amount: int = 1) -> pb.CartView:
    request = pb.AddRequest(cart_id="c-1", item=item, amount=amount)
    return await pb_grpc.CartStub(c.channel).AddItem(request)


async def remove(c: Cluster, item: str) -> pb.CartView:
    return await pb_grpc.CartStub(c.channel).RemoveItem(pb.RemoveRequest(cart_id="c-1", item=item))


async def test_a_cart_keeps_what_happened() -> None:
    async with cluster(Cart) as c:
        await add(c, "bread", 2)
        await add(c, "milk")
        await remove(c, "bread")
        events = await c.events(Cart, "c-1")
        assert events == [
            pb.ItemAdded(item="bread", amount=2),
            pb.ItemAdded(item="milk", amount=1),
            pb.ItemRemoved(item="bread"),
        ]
        assert (await c.state(Cart, "c-1")).items == {"milk": 1}


async def test_it_comes_back_by_its_events() -> None:
    async with cluster(Cart, workers=2) as c:
        await add(c, "bread", 2)
        await c.kill(0)
        await c.passivate(Cart, "c-1")
        assert (await c.state(Cart, "c-1")).items == {"bread": 2}
        assert (await add(c, "bread")).items == {"bread": 3}


async def test_what_is_refused_did_not_happen() -> None:
    async with cluster(Cart) as c:
        await add(c, "bread", 100)
        with pytest.raises(grpc.aio.AioRpcError, match="at most 100"):
            await add(c, "bread")
        await remove(c, "milk")
        assert len(await c.events(Cart, "c-1")) == 1


async def test_a_cart_is_checked_out_once() -> None:
    async with cluster(Cart) as c:
        carts = pb_grpc.CartStub(c.channel)
        with pytest.raises(grpc.aio.AioRpcError, match="the cart is empty"):
            await carts.CheckOut(pb.CartRef(cart_id="c-1"))
        await add(c, "bread")
        assert (await carts.CheckOut(pb.CartRef(cart_id="c-1"))).checked_out
        with pytest.raises(grpc.aio.AioRpcError, match="checked out") as refused:
            await add(c, "milk")
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert (await carts.Get(pb.CartRef(cart_id="c-1"))).items == {"bread": 1}


async def test_what_an_older_build_stored_is_read() -> None:
    async with cluster(CartOfToday) as c:
        await add(c, "bread")
        older = pb.ItemAdded(item="bread", amount=2)
        assert CartOfToday.decode("cart.v1.ItemPut", older.SerializeToString()) == older
        assert CartOfToday.decode("cart.v1.ItemAdded", older.SerializeToString()) == older
        assert await c.events(CartOfToday, "c-1") == [pb.ItemAdded(item="bread", amount=1)]
