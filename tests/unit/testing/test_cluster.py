"""The test kit as its users see it: entities in a cluster of their own, in milliseconds."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial
from typing import assert_type

import grpc
import pytest
import uvloop
from ledger.v1 import ledger_pb2 as pb
from ledger.v1 import ledger_pb2_grpc as rpc

from seedbed import ServicerContext, reason
from seedbed.errors import ContractError
from seedbed.testing import Cluster, cluster
from tests.unit.testing.bank import Account, Cache, account, act, posting


async def test_an_entity_answers_through_its_generated_stub() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        await accounts.Post(posting("a", 100))
        await accounts.Post(posting("a", -30))
        balance = await accounts.Get(account("a"))
        assert (balance.cents, balance.worker) == (70, "worker-0")


async def test_the_entitys_own_errors_come_through() -> None:
    async with cluster(Account) as c:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc.AccountStub(c.channel).Post(posting("a", -1))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert caught.value.details() == "not enough"


async def test_two_workers_share_the_entities() -> None:
    async with cluster(Account, workers=2) as c:
        accounts = rpc.AccountStub(c.channel)
        workers = [(await accounts.Get(account(f"a-{n}"))).worker for n in range(20)]
        assert set(workers) == {"worker-0", "worker-1"}


async def test_a_stream_gives_every_change() -> None:
    async with cluster(Account) as c:
        accounts = rpc.AccountStub(c.channel)
        watch = accounts.Watch(account("a"))
        balances = aiter(watch)
        assert (await anext(balances)).cents == 0
        await accounts.Post(posting("a", 5))
        assert (await anext(balances)).cents == 5
        watch.cancel()


async def test_clusters_know_nothing_of_each_other() -> None:
    for _ in range(3):
        async with cluster(Account) as c:
            assert (await rpc.AccountStub(c.channel).Post(posting("a", 1))).cents == 1


async def test_the_error_of_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with cluster(Account):
            raise ZeroDivisionError


async def test_nothing_is_left_when_the_block_ends() -> None:
    before = asyncio.all_tasks()
    Account.gate = asyncio.Event()
    async with cluster(Account, workers=2) as c:
        accounts = rpc.AccountStub(c.channel)
        call = accounts.Act(act("a", "wait"))
        watch = aiter(accounts.Watch(account("b")))
        await anext(watch)
        assert len(asyncio.all_tasks()) > len(before)
    assert asyncio.all_tasks() == before
    assert reason(await _error(call)) in ("OUTCOME_UNKNOWN", "MOVING")


async def _error(call: object) -> grpc.aio.AioRpcError:
    assert isinstance(call, grpc.aio.UnaryUnaryCall)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


@pytest.fixture
async def bank() -> AsyncIterator[Cluster]:
    async with cluster(Account, workers=2) as c:
        yield c


async def test_a_fixture_can_hold_it(bank: Cluster) -> None:
    assert (await rpc.AccountStub(bank.channel).Post(posting("a", 1))).cents == 1
    await bank.kill(0)
    assert (await rpc.AccountStub(bank.channel).Get(account("b"))).worker == "worker-1"


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_it_runs_without_pytests_help_on_either_loop(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def scenario() -> None:
        async with cluster(Account, workers=2) as c:
            accounts = rpc.AccountStub(c.channel)
            await accounts.Post(posting("a", 1))
            await c.advance(timedelta(hours=1))
            await c.move(Account, "a", to=0)
            await c.move(Account, "a", to=1)
            await c.kill(1)
            assert (await accounts.Get(account("a"))).worker == "worker-0"

    with asyncio.Runner(loop_factory=new_loop, debug=True) as runner:
        runner.run(scenario())


async def test_what_a_worker_refuses_is_refused() -> None:
    class Nothing(Account):
        def __init__(self, name: str) -> None: ...

    with pytest.raises(ContractError, match="__init__ needs arguments"):
        async with cluster(Nothing):  # type: ignore[arg-type] # what the test is about
            pass


async def test_factories_give_constructor_arguments() -> None:
    class Named(Account):
        def __init__(self, bank: str) -> None:
            self.bank = bank

        async def Get(self, request: pb.AccountRef, context: ServicerContext) -> pb.Balance:
            return pb.Balance(worker=self.bank)

    async with cluster(partial(Named, "ours")) as c:
        assert (await rpc.AccountStub(c.channel).Get(account("a"))).worker == "ours"
        assert (await c.state(Named, "a")).cents == 0


async def test_state_has_the_type_that_the_class_declares() -> None:
    async with cluster(Account) as c:
        assert_type(await c.state(Account, "a"), pb.AccountState)


async def test_wrong_arguments_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="at least one entity class"):
        async with cluster():
            pass
    with pytest.raises(ValueError, match="workers=0"):
        async with cluster(Account, workers=0):
            pass
    async with cluster(Account, workers=2) as c:
        with pytest.raises(ValueError, match="Cache is not in this cluster; it has: Account"):
            await c.passivate(Cache, "a")
        with pytest.raises(ValueError, match="worker 2 was never there; there are: 0, 1"):
            await c.kill(2)
        with pytest.raises(ValueError, match="worker -1 was never there"):
            await c.move(Account, "a", to=-1)
        await c.kill(0)
        with pytest.raises(ValueError, match="worker 0 is dead; there are: 1"):
            await c.move(Account, "a", to=0)
        with pytest.raises(ValueError, match="backwards"):
            await c.advance(timedelta(seconds=-1))
        with pytest.raises(ValueError, match="Cache is not in this cluster"):
            await c.events(Cache, "a")


def test_seedbed_itself_does_not_load_it() -> None:
    code = (
        "import seedbed, sys; seedbed.Entity; seedbed.Client;"
        "print([name for name in sys.modules if name.startswith(('seedbed_', 'seedbed.testing'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_services_it_says_what_to_install() -> None:
    code = """
import sys
class NotInstalled:
    def find_spec(self, name, path, target=None):
        if name == "seedbed_worker":
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, NotInstalled())
import seedbed.testing
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: seedbed.testing runs" in done.stderr
    assert 'pip install "seedbed[testing]"' in done.stderr
