"""An account: a balance that never goes below zero."""

from __future__ import annotations

import grpc

from bank.v1 import bank_pb2 as pb
from bank.v1 import bank_pb2_grpc as pb_grpc
from seedbed import Abort, Entity, ServicerContext


class Account(Entity[pb.AccountState], pb_grpc.AccountServicer):
    """One account; its key is the account's id."""

    async def Deposit(self, request: pb.Posting, context: ServicerContext) -> pb.Balance:
        check_amount(request.cents)
        self.state.cents += request.cents
        self.save()
        return self.balance()

    async def Withdraw(self, request: pb.Posting, context: ServicerContext) -> pb.Balance:
        check_amount(request.cents)
        self.check_open()
        if self.state.cents < request.cents:
            raise Abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{self.key} has {self.state.cents} cents, {request.cents} are asked for",
            )
        self.state.cents -= request.cents
        self.save()
        return self.balance()

    async def Close(self, request: pb.AccountRef, context: ServicerContext) -> pb.Balance:
        if self.state.cents:
            raise Abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{self.key} still has {self.state.cents} cents: withdraw them first",
            )
        if self.exists:
            self.delete()
        return self.balance()

    async def Get(self, request: pb.AccountRef, context: ServicerContext) -> pb.Balance:
        self.check_open()
        return self.balance()

    def check_open(self) -> None:
        if not self.exists:
            raise Abort(grpc.StatusCode.NOT_FOUND, f"there is no account {self.key}")

    def balance(self) -> pb.Balance:
        return pb.Balance(account_id=self.key, cents=self.state.cents)


def check_amount(cents: int) -> None:
    """Refuse what is no amount of money."""
    if cents <= 0:
        raise Abort(grpc.StatusCode.INVALID_ARGUMENT, f"cents is {cents}, expected 1 or more")
