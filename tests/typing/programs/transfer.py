"""A transfer between two accounts: a saga of three steps."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import grpc.aio
from sagas.v1 import transfer_pb2 as pb
from sagas.v1 import transfer_pb2_grpc as rpc

from seedbed import Entity, Reminder, ServicerContext, once, reason


class Transfer(Entity[pb.TransferState], rpc.TransferServicer):
    """A saga: each step is durable before the next; a reminder takes it up again after a crash."""

    async def Start(
        self, request: pb.TransferRequest, context: ServicerContext
    ) -> pb.TransferStatus:
        if not self.exists:
            self.state.debtor, self.state.creditor = request.debtor, request.creditor
            self.state.cents, self.state.step = request.cents, pb.STEP_STARTED
            self.save()
            self.remind(self.proceed)
        return self.status()

    async def Get(self, request: pb.TransferRef, context: ServicerContext) -> pb.TransferStatus:
        return self.status()

    async def Watch(
        self, request: pb.TransferRef, context: ServicerContext
    ) -> AsyncIterator[pb.TransferStatus]:
        async for _ in self.changes():
            yield self.status()

    async def proceed(self, reminder: Reminder) -> None:
        accounts, s = rpc.AccountStub(self.channel), self.state
        if s.step == pb.STEP_STARTED:
            try:
                await accounts.Withdraw(pb.Posting(account_id=s.debtor, cents=s.cents))
            except grpc.aio.AioRpcError as error:
                if reason(error) or error.code() not in (
                    grpc.StatusCode.FAILED_PRECONDITION,
                    grpc.StatusCode.NOT_FOUND,
                ):
                    raise  # ours, or passing: the reminder comes again, its calls as before
                s.step, s.reason = pb.STEP_REFUSED, error.details() or ""
            else:
                s.step = pb.STEP_DEBITED
            self.save()
        if s.step == pb.STEP_DEBITED:
            credit = pb.Posting(account_id=s.creditor, cents=s.cents)
            async with self.outside():  # the debit is on record before the credit leaves
                await accounts.Deposit(credit, metadata=once(f"{self.key}/credit"))
            self.state.step = pb.STEP_DONE
            self.save()

    def status(self) -> pb.TransferStatus:
        return pb.TransferStatus(
            transfer_id=self.key, step=self.state.step, reason=self.state.reason
        )
