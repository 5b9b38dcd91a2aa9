"""A transfer: two steps, each on record before the next begins.

Its caller drives it: `Start` goes as far as it can, and is called again until it is done.
(A reminder can drive it without a caller: docs/entities/reminders.md.)
"""

from __future__ import annotations

import grpc.aio

from bank.account import check_amount
from bank.v1 import bank_pb2 as pb
from bank.v1 import bank_pb2_grpc as pb_grpc
from seedbed import Abort, Entity, ServicerContext, once, reason

REFUSALS = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND)
"""With these codes an account says no, for good."""


class Transfer(Entity[pb.TransferState], pb_grpc.TransferServicer):
    """One transfer; its key is the transfer's id, chosen by the caller."""

    async def Start(
        self, request: pb.TransferRequest, context: ServicerContext
    ) -> pb.TransferStatus:
        if not self.exists:
            self.begin(request)
        self.check_same(request)
        if self.state.step == pb.STEP_STARTED:
            await self.debit()
        if self.state.step == pb.STEP_DEBITED:
            await self.credit()
        return self.status()

    async def Get(self, request: pb.TransferRef, context: ServicerContext) -> pb.TransferStatus:
        if not self.exists:
            raise Abort(grpc.StatusCode.NOT_FOUND, f"there is no transfer {self.key}")
        return self.status()

    def begin(self, request: pb.TransferRequest) -> None:
        check_amount(request.cents)
        if not (request.debtor and request.creditor):
            raise Abort(grpc.StatusCode.INVALID_ARGUMENT, "debtor and creditor must be given")
        self.state.debtor = request.debtor
        self.state.creditor = request.creditor
        self.state.cents = request.cents
        self.state.step = pb.STEP_STARTED
        self.save()

    def check_same(self, request: pb.TransferRequest) -> None:
        """Refuse another transfer under the same id."""
        known = (self.state.debtor, self.state.creditor, self.state.cents)
        if known != (request.debtor, request.creditor, request.cents):
            raise Abort(
                grpc.StatusCode.ALREADY_EXISTS,
                f"{self.key} is another transfer: give this one an id of its own",
            )

    async def debit(self) -> None:
        accounts = pb_grpc.AccountStub(self.channel)
        try:
            await accounts.Withdraw(
                pb.Posting(account_id=self.state.debtor, cents=self.state.cents)
            )
        except grpc.aio.AioRpcError as error:
            if reason(error) or error.code() not in REFUSALS:
                raise  # it may pass: the caller starts the transfer again
            self.state.step = pb.STEP_REFUSED
            self.state.reason = error.details() or ""
        else:
            self.state.step = pb.STEP_DEBITED
        self.save()

    async def credit(self) -> None:
        accounts = pb_grpc.AccountStub(self.channel)
        posting = pb.Posting(account_id=self.state.creditor, cents=self.state.cents)
        async with self.outside():  # the debit is on record before the credit leaves
            await accounts.Deposit(posting, metadata=once(f"{self.key}/credit"))
        self.state.step = pb.STEP_DONE
        self.save()

    def status(self) -> pb.TransferStatus:
        return pb.TransferStatus(
            transfer_id=self.key, step=self.state.step, reason=self.state.reason
        )
