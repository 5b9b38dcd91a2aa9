"""An order and its payment provider, whose client is a resource of the worker."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Protocol

import grpc
import httpx
from google.rpc.error_details_pb2 import ErrorInfo
from orders.v1 import order_pb2 as pb
from orders.v1 import order_pb2_grpc as rpc

from seedbed import Abort, Entity, Factory, Reminder, ServicerContext

PAYMENTS_URL = "https://payments.invalid"


class Payments(Protocol):
    async def charge(self, order_id: str, fence: int, cents: int) -> str:
        """Charge once for each order and fence; returns the payment's id."""
        ...


class HttpPayments:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def charge(self, order_id: str, fence: int, cents: int) -> str:
        answer = await self.http.post(f"/orders/{order_id}/{fence}", json={"cents": cents})
        return answer.raise_for_status().text


class Order(Entity[pb.OrderState], rpc.OrderServicer):
    def __init__(self, payments: Payments) -> None:
        self.payments = payments

    async def Place(self, request: pb.PlaceRequest, context: ServicerContext) -> pb.OrderView:
        if self.exists:
            raise Abort(
                grpc.StatusCode.ALREADY_EXISTS,
                "placed before",
                ErrorInfo(domain="shop", reason="EXISTS"),
            )
        self.state.cents, self.state.card_token = request.cents, request.card_token
        self.state.phase = pb.PHASE_PLACED
        self.save()
        self.remind(self.pay)
        self.remind(self.expire, after=timedelta(hours=24))
        return self.view()

    async def Cancel(self, request: pb.OrderRef, context: ServicerContext) -> pb.OrderView:
        if self.state.phase != pb.PHASE_PLACED or self.state.attempts:
            raise Abort(
                grpc.StatusCode.FAILED_PRECONDITION, "paid, ended, or a payment is under way"
            )
        return self.end(pb.PHASE_CANCELLED)

    async def Get(self, request: pb.OrderRef, context: ServicerContext) -> pb.OrderView:
        return self.view()

    async def pay(self, reminder: Reminder) -> None:
        if self.state.phase != pb.PHASE_PLACED:
            return
        self.state.attempts += 1
        self.save()
        fence, cents = self.turn.epoch, self.state.cents
        async with self.outside():  # the attempt is on record; Get and Cancel are answered
            payment_id = await self.payments.charge(self.key, fence, cents)
        self.state.payment_id = payment_id  # a turn of its own again
        self.end(pb.PHASE_PAID)

    async def expire(self, reminder: Reminder) -> None:
        if self.state.phase == pb.PHASE_PLACED and not self.state.attempts:
            self.end(pb.PHASE_EXPIRED)

    def end(self, phase: pb.Phase.ValueType) -> pb.OrderView:
        self.state.phase = phase
        self.save()
        self.forget(self.expire)
        return self.view()

    def view(self) -> pb.OrderView:
        return pb.OrderView(
            order_id=self.key, phase=self.state.phase, payment_id=self.state.payment_id
        )


@asynccontextmanager
async def entities() -> AsyncGenerator[Sequence[Factory]]:
    """SEEDBED_ENTITIES=order:entities"""
    async with httpx.AsyncClient(base_url=PAYMENTS_URL) as http:
        yield [partial(Order, HttpPayments(http))]
