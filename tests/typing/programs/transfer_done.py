"""A user's test of the transfer: it goes on by itself, whatever happens to its workers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import grpc
from sagas.v1 import transfer_pb2 as pb
from sagas.v1 import transfer_pb2_grpc as rpc
from transfer import Transfer

from seedbed import Abort, Entity, ServicerContext
from seedbed.testing import Cluster, cluster


@dataclass
class Ledger:
    cents: int = 100


class Account(Entity[Ledger], rpc.AccountServicer):
    rests = False
    """Nothing can be deposited now."""

    async def Withdraw(self, request: pb.Posting, context: ServicerContext) -> pb.Balance:
        if request.cents > self.state.cents:
            raise Abort(grpc.StatusCode.FAILED_PRECONDITION, "not enough")
        return self.post(-request.cents)

    async def Deposit(self, request: pb.Posting, context: ServicerContext) -> pb.Balance:
        if Account.rests:
            raise Abort(grpc.StatusCode.UNAVAILABLE, "come back later")
        return self.post(request.cents)

    def post(self, cents: int) -> pb.Balance:
        self.state.cents += cents
        self.save()
        return pb.Balance(cents=self.state.cents)


async def start(c: Cluster, cents: int) -> None:
    request = pb.TransferRequest(transfer_id="t", debtor="alice", creditor="bob", cents=cents)
    status = await rpc.TransferStub(c.channel).Start(request)
    assert status.step == pb.STEP_STARTED


async def step(c: Cluster) -> pb.Step.ValueType:
    return (await rpc.TransferStub(c.channel).Get(pb.TransferRef(transfer_id="t"))).step


async def cents(c: Cluster) -> tuple[int, int]:
    return (await c.state(Account, "alice")).cents, (await c.state(Account, "bob")).cents


def test_the_money_moves_after_the_call_has_been_answered() -> None:
    async def scenario() -> None:
        async with cluster(Transfer, Account, workers=2) as c:
            await start(c, 30)
            await c.advance(timedelta(seconds=1))
            assert await step(c) == pb.STEP_DONE
            assert await cents(c) == (70, 130)

    asyncio.run(scenario())


def test_what_is_not_there_is_not_moved() -> None:
    async def scenario() -> None:
        async with cluster(Transfer, Account) as c:
            await start(c, 101)
            await c.advance(timedelta(seconds=1))
            assert await step(c) == pb.STEP_REFUSED
            await c.advance(timedelta(days=1))
            assert await cents(c) == (100, 100)

    asyncio.run(scenario())


def test_it_goes_on_where_it_stood_when_its_worker_has_died() -> None:
    async def scenario() -> None:
        async with cluster(Transfer, Account, workers=3) as c:
            await c.move(Transfer, "t", to=0)
            Account.rests = True
            await start(c, 30)
            await c.advance(timedelta(minutes=1))
            assert await step(c) == pb.STEP_DEBITED
            await c.kill(0)
            Account.rests = False
            await c.advance(timedelta(minutes=5))
            assert await step(c) == pb.STEP_DONE
            assert await cents(c) == (70, 130)

    asyncio.run(scenario())
