"""Entities that are made of events, in a test's cluster."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator

import grpc.aio
import pytest
from ledger.v1 import ledger_pb2 as pb
from ledger.v1 import ledger_pb2_grpc as rpc

from seedbed import Entity, ServicerContext
from seedbed.testing import UnsavedChange, cluster
from tests.unit.testing.bank import Account, account, act, posting


class Book(Entity[pb.AccountState, pb.Posting], rpc.AccountServicer):
    """An account that keeps its postings."""

    def apply(self, event: pb.Posting) -> None:
        self.state.cents += event.cents

    async def Post(self, request: pb.Posting, context: ServicerContext) -> pb.Balance:
        self.emit(request)
        return self.balance()

    async def Get(self, request: pb.AccountRef, context: ServicerContext) -> pb.Balance:
        return self.balance()

    async def Act(self, request: pb.ActRequest, context: ServicerContext) -> pb.Balance:
        match request.how:
            case "no event":
                self.state.cents += 1
            case "an event, and more":
                self.emit(pb.Posting(cents=1))
                self.state.cents += 1
            case "more, and an event":
                self.state.cents += 1
                self.emit(pb.Posting(cents=1))
            case "two events":
                self.emit(pb.Posting(cents=1))
                self.emit(pb.Posting(cents=1))
            case "an event, more, and delete":
                self.emit(pb.Posting(cents=1))
                self.state.cents += 1
                self.delete()
            case "no event, and delete":
                self.state.cents += 1
                self.delete()
            case other:
                raise AssertionError(other)
        return self.balance()

    async def Watch(
        self, request: pb.AccountRef, context: ServicerContext
    ) -> AsyncIterator[pb.Balance]:
        async for _ in self.changes():
            yield self.balance()

    def balance(self) -> pb.Balance:
        return pb.Balance(cents=self.state.cents)


class Fleeting(Book, durable=False):
    """Stores nothing."""


async def test_a_test_sees_the_events_and_what_they_come_to() -> None:
    async with cluster(Book, workers=2) as c:
        books = rpc.AccountStub(c.channel)
        assert await c.events(Book, "a") == []
        await books.Post(posting("a", 3))
        await books.Act(act("a", "two events"))
        kept = [posting("a", 3), pb.Posting(cents=1), pb.Posting(cents=1)]
        assert await c.events(Book, "a") == kept
        await c.passivate(Book, "a")
        assert await c.state(Book, "a") == pb.AccountState(cents=5)
        await c.move(Book, "a", to=1)
        await c.kill(1)
        assert await c.state(Book, "a") == pb.AccountState(cents=5)
        assert await c.events(Book, "a") == kept
        assert (await books.Get(account("a"))).cents == 5


async def test_all_events_are_there_though_there_is_a_snapshot() -> None:
    async with cluster(Book) as c:
        books = rpc.AccountStub(c.channel)
        for _ in range(150):
            await books.Post(posting("a", 1))
        assert len(await c.events(Book, "a")) == 150
        await c.passivate(Book, "a")
        assert await c.state(Book, "a") == pb.AccountState(cents=150)


async def test_a_deletion_ends_them() -> None:
    async with cluster(Book) as c:
        books = rpc.AccountStub(c.channel)
        await books.Post(posting("a", 3))
        await books.Act(act("a", "no event, and delete"))
        assert await c.events(Book, "a") == []
        await books.Post(posting("a", 4))
        assert await c.events(Book, "a") == [posting("a", 4)]


async def test_who_stores_no_events_has_none() -> None:
    async with cluster(Account) as c:
        await rpc.AccountStub(c.channel).Post(posting("a", 1))
        assert await c.events(Account, "a") == []
    async with cluster(Fleeting) as c:
        await rpc.AccountStub(c.channel).Post(posting("a", 1))
        assert await c.events(Fleeting, "a") == []


@pytest.mark.parametrize("how", ["no event", "an event, and more", "more, and an event"])
async def test_a_change_that_no_event_says_is_warned_of(how: str) -> None:
    async with cluster(Book) as c:
        books = rpc.AccountStub(c.channel)
        await books.Post(posting("a", 1))
        with pytest.warns(UnsavedChange, match=r"Book\.Act changed the state without emit\(\)"):
            await books.Act(act("a", how))


@pytest.mark.parametrize(
    "how", ["two events", "no event, and delete", "an event, more, and delete"]
)
async def test_a_change_that_events_say_is_right(how: str) -> None:
    async with cluster(Book) as c:
        books = rpc.AccountStub(c.channel)
        await books.Post(posting("a", 1))
        with warnings.catch_warnings():
            warnings.simplefilter("error", UnsavedChange)
            await books.Act(act("a", how))


async def test_where_warnings_are_errors_the_event_is_not_kept() -> None:
    async with cluster(Book) as c:
        books = rpc.AccountStub(c.channel)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UnsavedChange)
            with pytest.raises(grpc.aio.AioRpcError, match=r"without emit\(\)"):
                await books.Act(act("a", "an event, and more"))
        assert await c.events(Book, "a") == []


async def test_a_volatile_class_may_change_without_events() -> None:
    async with cluster(Fleeting) as c:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UnsavedChange)
            await rpc.AccountStub(c.channel).Act(act("a", "no event"))
