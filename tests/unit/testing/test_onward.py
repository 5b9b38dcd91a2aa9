"""Entities that call entities, over two workers: what passes here passes in a real cluster."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import pytest
from ledger.v1 import ledger_pb2 as pb
from ledger.v1 import ledger_pb2_grpc as rpc

from seedbed import reason
from seedbed.testing import Cluster, cluster
from tests.unit.testing.bank import HOOKS, Account, Transfer, account, posting


@pytest.fixture(autouse=True)
async def _fresh() -> None:
    HOOKS.clear()
    Transfer.gate = asyncio.Event()
    Transfer.gate.set()


def _request(name: str = "t", cents: int = 30) -> pb.TransferRequest:
    return pb.TransferRequest(transfer=name, debtor="a", creditor="b", cents=cents)


async def _apart(c: Cluster) -> None:
    """Each party of the transfer on another worker than the one it calls."""
    await c.move(Transfer, "t", to=0)
    await c.move(Account, "a", to=1)
    await c.move(Account, "b", to=1)
    await rpc.AccountStub(c.channel).Post(posting("a", 100))


async def _cents(c: Cluster) -> tuple[int, int]:
    return (await c.state(Account, "a")).cents, (await c.state(Account, "b")).cents


async def test_a_transfer_between_two_workers() -> None:
    async with cluster(Account, Transfer, workers=2) as c:
        await _apart(c)
        status = await rpc.TransferStub(c.channel).Start(_request())
        assert status.step == "done"
        assert await _cents(c) == (70, 30)
        assert (await c.state(Transfer, "t")).step == "done"


async def test_the_error_of_the_entity_that_is_called_comes_through() -> None:
    async with cluster(Account, Transfer, workers=2) as c:
        await _apart(c)
        status = await rpc.TransferStub(c.channel).Start(_request(cents=1000))
        assert status.step == "refused"
        assert await _cents(c) == (100, 0)


async def test_a_call_outside_its_turn_holds_nothing_and_ends_by_the_clock() -> None:
    async with cluster(Account, Transfer, workers=2) as c:
        await _apart(c)
        Transfer.gate.clear()
        call = rpc.TransferStub(c.channel).Start(_request(), timeout=60)
        await c.advance(timedelta(seconds=30))
        assert (await c.state(Transfer, "t")).step == "debited"
        assert not call.done()
        await c.advance(timedelta(seconds=31))
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await _cents(c) == (70, 0)


@pytest.mark.parametrize("how", ["move", "kill"])
async def test_a_transfer_that_is_interrupted_goes_on_elsewhere(how: str) -> None:
    async with cluster(Account, Transfer, workers=2) as c:
        await _apart(c)
        Transfer.gate.clear()
        call = rpc.TransferStub(c.channel).Start(_request())
        await c.advance(timedelta())
        assert (await c.state(Transfer, "t")).step == "debited"
        if how == "move":
            await c.move(Transfer, "t", to=1)
        else:
            await c.kill(0)
        Transfer.gate.set()
        assert (await call).step == "done"
        assert await _cents(c) == (70, 30)


class Circular(Account):
    """Asks itself, by way of its own stub."""

    async def Get(self, request: pb.AccountRef, context: object) -> pb.Balance:
        return await rpc.AccountStub(self.channel).Get(account(self.key))


async def test_a_cycle_is_refused() -> None:
    async with cluster(Circular) as c:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc.AccountStub(c.channel).Get(account("a"))
        assert "CALL_CYCLE" in str(caught.value.details()) or reason(caught.value) == "CALL_CYCLE"
        assert "account/a -> account/a" in str(caught.value.details())


async def test_a_class_that_the_test_left_out_is_named_as_what_is_missing() -> None:
    async with cluster(Transfer) as c:
        with pytest.raises(grpc.aio.AioRpcError, match=r"give its class to cluster\(\)") as refused:
            await rpc.AccountStub(c.channel).Post(posting("a", 1))
        assert reason(refused.value) == "UNKNOWN_METHOD"
