"""The clock of a test's cluster: it stands still, and what falls due happens when it is moved."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import datetime, timedelta
from typing import ClassVar

import grpc
import pytest
from ledger.v1 import ledger_pb2 as pb
from ledger.v1 import ledger_pb2_grpc as rpc

from seedbed import ServicerContext, reason
from seedbed.testing import StillRunning, cluster
from tests.unit.testing.bank import HOOKS, Account, account, act, posting

IDLE = timedelta(seconds=120)
"""The default of SEEDBED_IDLE_TIMEOUT_S."""


@pytest.fixture(autouse=True)
async def _fresh() -> None:
    HOOKS.clear()
    Account.gate = asyncio.Event()


class Dated(Account):
    """Tells what its turns know of time."""

    seen: ClassVar[list[tuple[datetime, datetime | None]]]

    async def Get(self, request: pb.AccountRef, context: ServicerContext) -> pb.Balance:
        type(self).seen.append((self.turn.now, self.turn.deadline))
        return await super().Get(request, context)


async def test_time_stands_still_but_for_advance() -> None:
    seen = Dated.seen = list[tuple[datetime, datetime | None]]()
    async with cluster(Dated) as c:
        accounts = rpc.AccountStub(c.channel)
        await accounts.Get(account("a"), timeout=30)
        await accounts.Get(account("b"), timeout=30)
        await c.advance(timedelta(days=1, microseconds=1_000_001))
        await accounts.Get(account("a"), timeout=30)
    (now, deadline), (again, _), (later, _) = seen
    assert again == now
    assert deadline == now + timedelta(seconds=30)
    assert later - now == timedelta(days=1, seconds=1)


async def test_an_entity_leaves_when_it_has_been_idle_and_comes_back() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        await accounts.Get(account("a"))
        await c.advance(IDLE - timedelta(milliseconds=2))
        assert HOOKS == ["activated a on worker-0"]
        await c.advance(timedelta(milliseconds=4))
        assert HOOKS == ["activated a on worker-0", "deactivating a on worker-0"]
        await accounts.Get(account("a"))
        assert HOOKS[2:] == ["activated a on worker-0"]


async def test_everything_that_falls_due_happens_at_its_time() -> None:
    class Leaving(Account):
        async def deactivating(self) -> None:
            times.append((self.key, self.turn.now))

    times: list[tuple[str, datetime]] = []
    async with cluster(Leaving, workers=2) as c:
        accounts = rpc.AccountStub(c.channel)
        for key in "abc":
            await accounts.Get(account(key))
            await c.advance(timedelta(seconds=10))
        await c.advance(timedelta(hours=24))
    assert [key for key, _ in times] == ["a", "b", "c"]
    (_, a), (_, b), _ = times
    assert abs(b - a - timedelta(seconds=10)) < timedelta(milliseconds=10)


async def test_a_turn_ends_at_its_deadline() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        call = accounts.Act(act("a", "wait"), timeout=30)
        await c.advance(timedelta(seconds=29))
        assert not call.done()
        await c.advance(timedelta(seconds=2))
        assert call.done()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "while it ran" in str(caught.value.details())
        assert (await accounts.Get(account("a"))).cents == 0  # and the entity is free again


async def test_a_call_that_brings_no_time_out_has_ten_seconds() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        assert (await accounts.Act(act("a", "time remaining"))).cents == 10
        call = accounts.Act(act("a", "wait"))
        await c.advance(timedelta(seconds=11))
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_real_time_ends_a_call_too() -> None:
    async with cluster(Account) as c:
        call = rpc.AccountStub(c.channel).Act(act("a", "wait"), timeout=0.05)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert reason(caught.value) == "DEADLINE"
        assert "the cluster's clock stands still but for advance()" in str(caught.value.details())


async def test_real_time_ends_a_stream_too() -> None:
    async with cluster(Account) as c:
        watch = rpc.AccountStub(c.channel).Watch(account("a"), timeout=0.05)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in watch:
                pass
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_an_open_stream_keeps_its_entity_and_its_place() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        balances = aiter(accounts.Watch(account("a")))
        await anext(balances)
        await c.advance(timedelta(hours=24))
        assert HOOKS == ["activated a on worker-0"]
        await accounts.Post(posting("a", 1))
        assert (await anext(balances)).cents == 1


async def test_leases_outlive_any_jump() -> None:
    async with cluster(Account, workers=2) as c:
        accounts = rpc.AccountStub(c.channel)
        before = await accounts.Post(posting("a", 1))
        await c.advance(timedelta(days=365))
        after = await accounts.Get(account("a"))
        assert (after.worker, after.epoch) == (before.worker, before.epoch)


async def test_a_turn_that_advance_starts_is_waited_for() -> None:
    class Slow(Account):
        async def deactivating(self) -> None:
            await asyncio.to_thread(time.sleep, 0.02)
            HOOKS.append("left")

    async with cluster(Slow) as c:
        await rpc.AccountStub(c.channel).Get(account("a"))
        await c.advance(IDLE * 2)
        assert HOOKS[-1] == "left"


async def test_one_that_does_not_end_is_left_running_with_a_warning() -> None:
    class Stuck(Account):
        async def deactivating(self) -> None:
            await self.gate.wait()

    async with cluster(Stuck) as c:
        await rpc.AccountStub(c.channel).Get(account("a"))
        with pytest.warns(StillRunning, match=r"account/a: deactivating\(\) is still"):
            await c.advance(IDLE * 2)
        await c.advance(timedelta(seconds=1))  # it is not waited for a second time
        Stuck.gate.set()


async def test_a_turn_that_does_not_heed_its_end_is_warned_of_once() -> None:
    class Stubborn(Account):
        async def Act(self, request: pb.ActRequest, context: ServicerContext) -> pb.Balance:
            while not self.gate.is_set():
                with suppress(asyncio.CancelledError):
                    await self.gate.wait()
            return self.balance()

    async with cluster(Stubborn) as c:
        call = rpc.AccountStub(c.channel).Act(act("a", "wait"), timeout=5)
        try:
            with pytest.warns(StillRunning, match=r"account/a: Act\(\) is still running"):
                await c.advance(timedelta(seconds=6))
            assert call.done()  # for its caller it is over
            await c.advance(timedelta(seconds=6))
        finally:
            Stubborn.gate.set()


async def test_a_turn_that_waits_in_line_begins_when_the_one_before_it_is_cut_off() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        first = accounts.Act(act("a", "wait"), timeout=5)
        second = accounts.Post(posting("a", 7), timeout=60)
        await c.advance(timedelta(seconds=6))
        assert first.done()
        assert second.done()
        assert (await second).cents == 7


async def test_a_day_passes_in_milliseconds() -> None:
    async with cluster(Account, workers=3) as c:
        accounts = rpc.AccountStub(c.channel)
        for number in range(50):
            await accounts.Get(account(f"a-{number}"))
        started = time.perf_counter()
        await c.advance(timedelta(days=1))
        assert time.perf_counter() - started < 1.0
        assert len([hook for hook in HOOKS if hook.startswith("deactivating")]) == 50
