"""Entities for the test kit's tests: a bank, whose accounts do what a test asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import ClassVar

import grpc
from ledger.v1 import ledger_pb2 as pb
from ledger.v1 import ledger_pb2_grpc as rpc

from seedbed import Abort, Entity, ServicerContext, once, reason

HOOKS: list[str] = []
"""What the hooks of accounts were called for, in order; tests that look at it clear it."""


class Account(Entity[pb.AccountState], rpc.AccountServicer):
    """A durable account."""

    gate: ClassVar[asyncio.Event]
    """What the turns of `Act("wait")` wait for; each test sets its own."""

    async def activated(self) -> None:
        HOOKS.append(f"activated {self.key} on {self.turn.worker}")

    async def deactivating(self) -> None:
        HOOKS.append(f"deactivating {self.key} on {self.turn.worker}")

    async def Post(self, request: pb.Posting, context: ServicerContext) -> pb.Balance:
        if self.state.cents + request.cents < 0:
            raise Abort(grpc.StatusCode.FAILED_PRECONDITION, "not enough")
        self.state.cents += request.cents
        self.save()
        return self.balance()

    async def Get(self, request: pb.AccountRef, context: ServicerContext) -> pb.Balance:
        return self.balance()

    async def Act(self, request: pb.ActRequest, context: ServicerContext) -> pb.Balance:
        match request.how:
            case "wait":
                await type(self).gate.wait()
            case "forget to save":
                self.state.cents += 1
            case "forget to save, and fail":
                self.state.cents += 1
                raise Abort(grpc.StatusCode.ABORTED, "no")
            case "forget to await":
                rpc.AccountStub(self.channel).Get(account("else"))
            case "time remaining":
                return pb.Balance(cents=round(context.time_remaining()))
            case other:
                raise AssertionError(other)
        return self.balance()

    async def Watch(
        self, request: pb.AccountRef, context: ServicerContext
    ) -> AsyncIterator[pb.Balance]:
        async for _ in self.changes():
            yield self.balance()

    def balance(self) -> pb.Balance:
        return pb.Balance(cents=self.state.cents, worker=self.turn.worker, epoch=self.turn.epoch)


class Cache(Account, durable=False):
    """The same, but what it holds is lost when it leaves."""


class Transfer(Entity[pb.TransferState], rpc.TransferServicer):
    """Moves money from one account to another, and says how far it is."""

    gate: ClassVar[asyncio.Event]
    """What it waits for outside its turn, before the credit; each test sets its own."""

    async def Start(
        self, request: pb.TransferRequest, context: ServicerContext
    ) -> pb.TransferStatus:
        accounts = rpc.AccountStub(self.channel)
        if not self.exists:
            try:
                await accounts.Post(posting(request.debtor, -request.cents))
            except grpc.aio.AioRpcError as error:
                if reason(error) or error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                    raise
                return self.at("refused")
            self.at("debited")
        if self.state.step == "debited":
            credit = posting(request.creditor, request.cents)
            async with self.outside():
                await self.gate.wait()
                await accounts.Post(credit, metadata=once(f"{self.key}/credit"))
            self.at("done")
        return pb.TransferStatus(step=self.state.step)

    def at(self, step: str) -> pb.TransferStatus:
        self.state.step = step
        self.save()
        return pb.TransferStatus(step=step)


def account(name: str) -> pb.AccountRef:
    return pb.AccountRef(account=name)


def posting(name: str, cents: int) -> pb.Posting:
    return pb.Posting(account=name, cents=cents)


def act(name: str, how: str) -> pb.ActRequest:
    return pb.ActRequest(account=name, how=how)
