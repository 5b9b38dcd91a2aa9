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
        yield await self.Get(request, context)


async def test_a_read_only_method_is_told_so() -> None:
    async with cluster(Careless) as c:
        with pytest.warns(UnsavedChange, match=r"Careless\.Get is read-only and changed"):
            await rpc.AccountStub(c.channel).Get(account("a"))
