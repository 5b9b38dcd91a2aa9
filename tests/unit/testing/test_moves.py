"""Moves, crashes and passivation in the test kit: what stays, what is lost, who answers."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import pytest
from ledger.v1 import ledger_pb2_grpc as rpc

from seedbed import reason
from seedbed.testing import StillRunning, UnsavedChange, cluster
from tests.unit.testing.bank import HOOKS, Account, Cache, account, act, posting


@pytest.fixture(autouse=True)
async def _fresh() -> None:
    HOOKS.clear()
    Account.gate = asyncio.Event()


async def _owner(accounts: rpc.AccountAsyncStub, key: str) -> int:
    return int((await accounts.Get(account(key))).worker.removeprefix("worker-"))


async def test_a_move_lets_the_entity_go_and_gives_its_shard_a_new_epoch() -> None:
    async with cluster(Account, workers=2) as c:
        accounts = rpc.AccountStub(c.channel)
        before = await accounts.Post(posting("a", 5))
        owner = int(before.worker[-1])
        await c.move(Account, "a", to=1 - owner)
        assert HOOKS[-1] == f"deactivating a on worker-{owner}"
        after = await accounts.Get(account("a"))
        assert after.worker == f"worker-{1 - owner}"
        assert after.epoch > before.epoch


async def test_a_move_to_the_owner_is_a_new_epoch() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        before = await accounts.Get(account("a"))
        await c.move(Account, "a", to=0)
        after = await accounts.Get(account("a"))
        assert (after.worker, after.epoch > before.epoch) == (before.worker, True)


async def test_a_move_waits_for_the_turn_that_runs_and_other_calls_wait_for_the_move() -> None:
    async with cluster(Account, workers=2) as c:
        accounts = rpc.AccountStub(c.channel)
        owner = await _owner(accounts, "a")
        running = accounts.Act(act("a", "wait"))
        queued = accounts.Post(posting("a", 1))
        await c.advance(timedelta())  # both are there
        async with asyncio.TaskGroup() as tasks:
            move = tasks.create_task(c.move(Account, "a", to=1 - owner))
            await c.advance(timedelta())
            late = accounts.Get(account("a"))
            await c.advance(timedelta())
            assert not any(one.done() for one in (move, running, queued, late))
            Account.gate.set()
        assert (await running).worker == f"worker-{owner}"
        assert (await queued).worker == (await late).worker == f"worker-{1 - owner}"


class Loose(Account, durable=False):
    """An account that nobody keeps."""


async def test_a_turn_that_does_not_end_is_stopped_by_the_move() -> None:
    async with cluster(Account, workers=2) as c:
        accounts = rpc.AccountStub(c.channel)
        owner = await _owner(accounts, "a")
        running = accounts.Act(act("a", "wait"))
        await c.advance(timedelta())
        with pytest.warns(StillRunning, match=r"account/a: Act\(\) is still running"):
            await c.move(Account, "a", to=1 - owner)
        Account.gate.set()
        assert (await running).worker == f"worker-{1 - owner}", "it began again there"


async def test_a_move_ends_an_open_stream() -> None:
    async with cluster(Account, workers=2) as c:
        accounts = rpc.AccountStub(c.channel)
        owner = await _owner(accounts, "a")
        balances = aiter(accounts.Watch(account("a")))
        await anext(balances)
        await c.move(Account, "a", to=1 - owner)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(balances)
        assert reason(caught.value) == "MOVING"


async def test_after_a_kill_the_shards_answer_elsewhere() -> None:
    async with cluster(Account, workers=3) as c:
        accounts = rpc.AccountStub(c.channel)
        keys = [f"a-{number}" for number in range(30)]
        owners = {key: await _owner(accounts, key) for key in keys}
        HOOKS.clear()
        await c.kill(1)
        assert HOOKS == []  # no goodbye
        now = {key: await _owner(accounts, key) for key in keys}
        assert 1 in owners.values()
        assert set(now.values()) == {0, 2}
        assert all(now[key] == owner for key, owner in owners.items() if owner != 1)


async def test_what_ran_on_a_worker_that_is_killed_is_repeated_elsewhere() -> None:
    async with cluster(Account, workers=2) as c:
        accounts = rpc.AccountStub(c.channel)
        owner = await _owner(accounts, "a")
        running = accounts.Act(act("a", "wait"))
        await c.advance(timedelta())
        await c.kill(owner)
        Account.gate.set()
        assert (await running).worker == f"worker-{1 - owner}"


async def test_a_kill_leaves_the_outcome_of_what_ran_in_a_volatile_class_unknown() -> None:
    async with cluster(Loose, workers=2) as c:
        accounts = rpc.AccountStub(c.channel)
        owner = await _owner(accounts, "a")
        running = accounts.Act(act("a", "wait"))
        await c.advance(timedelta())
        await c.kill(owner)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running
        assert reason(caught.value) == "OUTCOME_UNKNOWN"


async def test_without_any_worker_calls_wait_and_then_say_so() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        await c.kill(0)
        call = accounts.Get(account("a"))
        await c.advance(timedelta(seconds=11))
        assert call.done()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert reason(caught.value) == "NO_WORKERS"
        await c.passivate(Account, "a")
        assert (await c.state(Account, "a")).cents == 0


async def test_passivate_lets_an_entity_leave_memory() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        await c.passivate(Account, "a")  # nothing is there
        assert HOOKS == []
        await accounts.Get(account("a"))
        await c.passivate(Account, "a")
        assert HOOKS == ["activated a on worker-0", "deactivating a on worker-0"]
        await accounts.Get(account("a"))
        assert HOOKS[2:] == ["activated a on worker-0"]


async def test_passivate_waits_for_the_turn_that_runs() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        running = accounts.Act(act("a", "wait"))
        await c.advance(timedelta())
        with pytest.warns(StillRunning, match=r"account/a: Act\(\) is still running"):
            await c.passivate(Account, "a")
        assert "deactivating a on worker-0" not in HOOKS
        Account.gate.set()
        await running
        await c.advance(timedelta())
        assert HOOKS[-1] == "deactivating a on worker-0"


async def test_a_durable_class_keeps_its_state_over_everything() -> None:
    async with cluster(Account, workers=2) as c:
        accounts = rpc.AccountStub(c.channel)
        await accounts.Post(posting("a", 5))
        await c.passivate(Account, "a")
        assert (await c.state(Account, "a")).cents == 5  # as it is stored
        assert HOOKS[-1].startswith("deactivating")  # and nobody was woken
        assert (await accounts.Post(posting("a", 5))).cents == 10
        owner = await _owner(accounts, "a")
        await c.move(Account, "a", to=1 - owner)
        assert (await accounts.Post(posting("a", 5))).cents == 15
        await c.kill(1 - owner)
        assert (await c.state(Account, "a")).cents == 15
        assert (await accounts.Get(account("a"))).cents == 15


async def test_a_durable_class_loses_what_was_not_saved() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        await accounts.Post(posting("a", 5))
        with pytest.warns(UnsavedChange):
            await accounts.Act(act("a", "forget to save"))
        assert (await c.state(Account, "a")).cents == 6
        await c.passivate(Account, "a")
        assert (await c.state(Account, "a")).cents == 5


async def test_a_volatile_class_loses_its_state() -> None:
    async with cluster(Cache, workers=2) as c:
        caches = rpc.AccountStub(c.channel)
        await caches.Post(posting("a", 5))
        assert (await c.state(Cache, "a")).cents == 5
        await c.passivate(Cache, "a")
        assert (await c.state(Cache, "a")).cents == 0
        await caches.Post(posting("a", 5))
        await c.move(Cache, "a", to=1 - await _owner(caches, "a"))
        assert (await caches.Get(account("a"))).cents == 0
        await caches.Post(posting("a", 5))
        await c.kill(await _owner(caches, "a"))
        assert (await caches.Get(account("a"))).cents == 0


async def test_the_state_that_is_given_is_a_copy() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        await accounts.Post(posting("a", 5))
        (await c.state(Account, "a")).cents = 1000
        assert (await accounts.Get(account("a"))).cents == 5


async def test_a_worker_may_die_in_the_middle_of_a_move() -> None:
    async with cluster(Account, workers=3) as c:
        accounts = rpc.AccountStub(c.channel)
        owner = await _owner(accounts, "a")
        to = (owner + 1) % 3
        running = accounts.Act(act("a", "wait"))
        await c.advance(timedelta())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(c.move(Account, "a", to=to))
            await c.advance(timedelta())
            await c.kill(owner)
        assert await running.code() is grpc.StatusCode.UNKNOWN
        assert await _owner(accounts, "a") == to


async def test_the_one_that_is_to_have_the_shard_may_die_too() -> None:
    async with cluster(Account, workers=3) as c:
        accounts = rpc.AccountStub(c.channel)
        owner = await _owner(accounts, "a")
        to = (owner + 1) % 3
        running = accounts.Act(act("a", "wait"))
        await c.advance(timedelta())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(c.move(Account, "a", to=to))
            await c.advance(timedelta())
            await c.kill(to)
            Account.gate.set()
        assert (await running).worker == f"worker-{owner}"
        assert await _owner(accounts, "a") != to
