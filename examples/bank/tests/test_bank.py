"""The bank in a cluster inside this process: no sockets, and time moves only as it is told."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from bank.account import Account
from bank.transfer import Transfer
from bank.v1 import bank_pb2 as pb
from bank.v1 import bank_pb2_grpc as pb_grpc

from seedbed import Abort, ServicerContext, once
from seedbed.testing import Cluster, cluster


def transfer(cents: int = 30, *, to: str = "bob") -> pb.TransferRequest:
    return pb.TransferRequest(transfer_id="t-1", debtor="alice", creditor=to, cents=cents)


async def start(c: Cluster, request: pb.TransferRequest) -> pb.TransferStatus:
    """Start the transfer as its client does: always as the same call."""
    stub = pb_grpc.TransferStub(c.channel)
    return await stub.Start(request, metadata=once(request.transfer_id))


async def deposit(c: Cluster, account: str, cents: int) -> pb.Balance:
    stub = pb_grpc.AccountStub(c.channel)
    return await stub.Deposit(pb.Posting(account_id=account, cents=cents))


async def balance(c: Cluster, account: str) -> int:
    view = await pb_grpc.AccountStub(c.channel).Get(pb.AccountRef(account_id=account))
    return view.cents


async def step(c: Cluster) -> pb.Step.ValueType:
    stub = pb_grpc.TransferStub(c.channel)
    status = await stub.Get(pb.TransferRef(transfer_id="t-1"))
    return status.step


async def test_a_transfer_moves_the_money() -> None:
    async with cluster(Account, Transfer, workers=2) as c:
        await deposit(c, "alice", 100)
        assert (await start(c, transfer(30))).step == pb.STEP_DONE
        assert (await balance(c, "alice"), await balance(c, "bob")) == (70, 30)


async def test_a_transfer_that_is_done_is_not_done_again() -> None:
    async with cluster(Account, Transfer) as c:
        await deposit(c, "alice", 100)
        await start(c, transfer(30))
        stub = pb_grpc.TransferStub(c.channel)
        again = await stub.Start(transfer(30), metadata=once("another call"))
        assert again.step == pb.STEP_DONE
        assert (await balance(c, "alice"), await balance(c, "bob")) == (70, 30)


async def test_without_the_money_the_transfer_is_refused_and_says_why() -> None:
    async with cluster(Account, Transfer) as c:
        await deposit(c, "alice", 10)
        status = await start(c, transfer(30))
        assert status.step == pb.STEP_REFUSED
        assert status.reason == "alice has 10 cents, 30 are asked for"
        assert await balance(c, "alice") == 10


async def test_another_transfer_under_the_same_id_is_refused() -> None:
    async with cluster(Account, Transfer) as c:
        await deposit(c, "alice", 100)
        await start(c, transfer(30))
        stub = pb_grpc.TransferStub(c.channel)
        with pytest.raises(grpc.aio.AioRpcError, match="t-1 is another transfer") as raised:
            await stub.Start(transfer(99))
        assert raised.value.code() is grpc.StatusCode.ALREADY_EXISTS


class Stubborn(Account):
    """The first deposits to bob fail."""

    failures = 1

    async def Deposit(self, request: pb.Posting, context: ServicerContext) -> pb.Balance:
        if self.key == "bob" and Stubborn.failures:
            Stubborn.failures -= 1
            raise Abort(grpc.StatusCode.UNAVAILABLE, "come back later")
        return await super().Deposit(request, context)


async def test_a_transfer_goes_on_where_it_stood() -> None:
    Stubborn.failures = 1
    async with cluster(Stubborn, Transfer, workers=2) as c:
        await deposit(c, "alice", 100)
        with pytest.raises(
            grpc.aio.AioRpcError, match="account/bob Deposit ended with UNAVAILABLE"
        ):
            await start(c, transfer(30))
        assert await step(c) == pb.STEP_DEBITED
        await c.passivate(Transfer, "t-1")
        assert (await start(c, transfer(30))).step == pb.STEP_DONE
        assert (await balance(c, "alice"), await balance(c, "bob")) == (70, 30)


class Resting(Account):
    """Deposits to bob wait until they may go on."""

    reached = asyncio.Event()
    may_go_on = asyncio.Event()

    async def Deposit(self, request: pb.Posting, context: ServicerContext) -> pb.Balance:
        if self.key == "bob":
            Resting.reached.set()
            await Resting.may_go_on.wait()
        return await super().Deposit(request, context)


async def test_a_transfer_answers_while_it_waits_for_the_credit() -> None:
    Resting.reached, Resting.may_go_on = asyncio.Event(), asyncio.Event()
    async with cluster(Resting, Transfer) as c, asyncio.TaskGroup() as tasks:
        await deposit(c, "alice", 100)
        started = tasks.create_task(start(c, transfer(30)))
        await Resting.reached.wait()
        assert await step(c) == pb.STEP_DEBITED
        Resting.may_go_on.set()
        assert (await started).step == pb.STEP_DONE


async def test_an_account_ends_when_it_is_closed() -> None:
    async with cluster(Account) as c:
        accounts = pb_grpc.AccountStub(c.channel)
        alice = pb.AccountRef(account_id="alice")
        await deposit(c, "alice", 100)
        with pytest.raises(grpc.aio.AioRpcError, match="withdraw them first"):
            await accounts.Close(alice)
        await accounts.Withdraw(pb.Posting(account_id="alice", cents=100))
        await accounts.Close(alice)
        with pytest.raises(grpc.aio.AioRpcError, match="there is no account alice"):
            await accounts.Get(alice)
        assert (await deposit(c, "alice", 5)).cents == 5
