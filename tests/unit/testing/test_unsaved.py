"""A turn that changes the state of a durable class, succeeds and does not save is warned of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import pytest
from ledger.v1 import ledger_pb2 as pb
from ledger.v1 import ledger_pb2_grpc as rpc

from seedbed import Entity, ServicerContext
from seedbed.testing import UnsavedChange, cluster
from tests.unit.testing.bank import Account, Cache, account, act, posting


async def test_it_names_class_and_method_once() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        with pytest.warns(UnsavedChange, match=r"Account\.Act changed the state without save\(\)"):
            await accounts.Act(act("a", "forget to save"))
        await accounts.Act(act("a", "forget to save"))
        await accounts.Act(act("b", "forget to save"))


async def test_where_warnings_are_errors_the_call_fails_with_its_text() -> None:
    async with cluster(Account) as c:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc.AccountStub(c.channel).Act(act("a", "forget to save"))
        assert "Account.Act changed the state without save()" in str(caught.value.details())


async def test_a_turn_that_saves_or_fails_or_changes_nothing_is_right() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        await accounts.Post(posting("a", 1))
        await accounts.Get(account("a"))
        with pytest.raises(grpc.aio.AioRpcError, match="no"):
            await accounts.Act(act("a", "forget to save, and fail"))


async def test_a_volatile_class_need_not_save() -> None:
    async with cluster(Cache) as c:
        await rpc.AccountStub(c.channel).Act(act("a", "forget to save"))


@dataclass
class Total:
    cents: int = 0


class Careless(Entity[Total], rpc.AccountServicer):
    """Changes what it should only read."""

    async def Post(self, request: pb.Posting, context: ServicerContext) -> pb.Balance:
        raise NotImplementedError

    async def Get(self, request: pb.AccountRef, context: ServicerContext) -> pb.Balance:
        self.state.cents += 1
        return pb.Balance(cents=self.state.cents)

    async def Act(self, request: pb.ActRequest, context: ServicerContext) -> pb.Balance:
        raise NotImplementedError

    async def Watch(
        self, request: pb.AccountRef, context: ServicerContext
    ) -> AsyncIterator[pb.Balance]:
        self.state.cents += 1
        yield pb.Balance(cents=self.state.cents)


async def test_a_read_only_method_is_told_so() -> None:
    async with cluster(Careless) as c:
        with pytest.warns(UnsavedChange, match=r"Careless\.Get is read-only and changed"):
            await rpc.AccountStub(c.channel).Get(account("a"))


async def test_a_stream_is_told_so_too() -> None:
    async with cluster(Careless) as c:
        with pytest.warns(UnsavedChange, match=r"Careless\.Watch is read-only and changed"):
            async for _ in rpc.AccountStub(c.channel).Watch(account("a")):
                pass


async def test_a_stream_that_sees_the_changes_of_others_is_right() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        balances = aiter(accounts.Watch(account("a")))
        for cents in range(3):
            assert (await anext(balances)).cents == cents
            await accounts.Post(posting("a", 1))


async def test_the_watch_does_not_hide_where_a_method_stands(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Wrong(Account):
        async def Get(self, request: pb.AccountRef, context: ServicerContext) -> pb.Balance:
            return "no balance"  # type: ignore[return-value] # what the test is about

    async with cluster(Wrong) as c:
        with pytest.raises(grpc.aio.AioRpcError, match="returned str, expected"):
            await rpc.AccountStub(c.channel).Get(account("a"))
    assert [__file__ in str(vars(one).get("place")) for one in caplog.records if one.exc_info] == [
        True
    ]
