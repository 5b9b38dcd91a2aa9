"""What a type checker must refuse, on the lines that say so: else the rest would prove nothing."""

from __future__ import annotations

from functools import partial
from typing import assert_never

from order import Order
from orders.v1 import order_pb2 as pb
from orders.v1 import order_pb2_grpc as rpc

from seedbed import Entity, Factory, Reminder, ServicerContext, once


class Wrong(Entity[pb.OrderState], rpc.OrderServicer):
    async def Get(self, request: pb.OrderView, context: ServicerContext) -> pb.OrderView:  # refused
        return pb.OrderView(order_id=self.key)

    async def Cancel(self, request: pb.OrderRef, context: ServicerContext) -> pb.OrderView:
        self.state.phases = pb.PHASE_PAID  # refused
        self.state.cents = "100"  # refused
        self.remind(self.told)  # refused
        self.emit(pb.OrderState())  # refused
        return pb.OrderRef()  # refused

    async def Place(self, request: pb.PlaceRequest, context: ServicerContext) -> pb.OrderView:
        orders = rpc.OrderStub(self.channel)
        view: pb.OrderView = orders.Get(pb.OrderRef(order_id="o"))  # refused
        await orders.Get(pb.OrderView(order_id="o"))  # refused
        await orders.Get(pb.OrderRef(order_id="o"), metadata=once(self.key))
        self.turn.epoch = 1  # refused
        return view

    async def told(self, reminder: str) -> None:
        return None

    async def gone(self, reminder: Reminder) -> None:
        self.forget(self.gone)


class Stateless(Entity, rpc.OrderServicer):
    async def Place(self, request: pb.PlaceRequest, context: ServicerContext) -> pb.OrderView:
        return pb.OrderView(payment_id=self.state.payment_id)  # refused

    async def Cancel(self, request: pb.OrderRef, context: ServicerContext) -> pb.OrderView:
        return pb.OrderView()

    async def Get(self, request: pb.OrderRef, context: ServicerContext) -> pb.OrderView:
        return pb.OrderView()


class Forgetful(Entity[pb.OrderState, pb.OrderRef | pb.OrderView], rpc.OrderServicer):
    def apply(self, event: pb.OrderRef | pb.OrderView) -> None:
        match event:
            case pb.OrderView():
                self.state.phase = event.phase
            case _:
                assert_never(event)  # refused

    async def Place(self, request: pb.PlaceRequest, context: ServicerContext) -> pb.OrderView:
        self.emit(pb.OrderRef())
        self.emit(request)  # refused
        return pb.OrderView()

    @classmethod
    def decode(cls, name: str, data: bytes) -> pb.PlaceRequest:  # refused
        return pb.PlaceRequest()


no_payments: Factory = Order  # refused
no_entity: Factory = partial(pb.OrderRef)  # refused
fine: Factory = Stateless
