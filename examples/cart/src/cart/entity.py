"""A cart: its state is made of events, which are kept."""

from __future__ import annotations

from typing import TypeAlias, assert_never

import grpc

from cart.v1 import cart_pb2 as pb
from cart.v1 import cart_pb2_grpc as pb_grpc
from seedbed import Abort, Entity, ServicerContext

Event: TypeAlias = pb.ItemAdded | pb.ItemRemoved | pb.CheckedOut

MOST = 100
"""Of one item."""


class Cart(Entity[pb.CartState, Event], pb_grpc.CartServicer):
    """One cart. Methods decide what happens, and `apply` is all that changes the state."""

    def apply(self, event: Event) -> None:
        match event:
            case pb.ItemAdded():
                self.state.items[event.item] += event.amount
            case pb.ItemRemoved():
                del self.state.items[event.item]
            case pb.CheckedOut():
                self.state.checked_out_at.CopyFrom(event.at)
            case _:
                assert_never(event)

    async def AddItem(self, request: pb.AddRequest, context: ServicerContext) -> pb.CartView:
        self.must_be_open()
        if self.state.items.get(request.item, 0) + request.amount > MOST:
            raise Abort(grpc.StatusCode.FAILED_PRECONDITION, f"at most {MOST} of an item")
        self.emit(pb.ItemAdded(item=request.item, amount=request.amount))
        return self.view()

    async def RemoveItem(self, request: pb.RemoveRequest, context: ServicerContext) -> pb.CartView:
        self.must_be_open()
        if request.item in self.state.items:
            self.emit(pb.ItemRemoved(item=request.item))
        return self.view()

    async def CheckOut(self, request: pb.CartRef, context: ServicerContext) -> pb.CartView:
        self.must_be_open()
        if not self.state.items:
            raise Abort(grpc.StatusCode.FAILED_PRECONDITION, "the cart is empty")
        event = pb.CheckedOut()
        event.at.FromDatetime(self.turn.now)  # in apply() there is no turn
        self.emit(event)
        return self.view()

    async def Get(self, request: pb.CartRef, context: ServicerContext) -> pb.CartView:
        return self.view()

    def must_be_open(self) -> None:
        """Refuse what comes after the check-out."""
        if self.state.HasField("checked_out_at"):
            raise Abort(grpc.StatusCode.FAILED_PRECONDITION, "the cart is checked out")

    def view(self) -> pb.CartView:
        return pb.CartView(
            cart_id=self.key,
            items=self.state.items,
            checked_out=self.state.HasField("checked_out_at"),
        )
