"""A block of outside(): others run meanwhile, and the call comes back in a turn of its own."""

from __future__ import annotations

from seedbed.errors import Reason
from seedbed_worker.runtime import HostLimits
from tests.unit.worker.commits_world import Store
from tests.unit.worker.host_world import (
    GATES,
    LOG,
    SECOND,
    reason,
    refused,
    reply,
    settle,
    world,
)
from tests.unit.worker.outside_world import BOTH, Kept, Volatile, of


@BOTH
async def test_others_run_while_a_call_is_outside(durable: bool) -> None:
    async with world(of(durable=durable)) as w:
        call = w.start(w.call("Act", how="out and back", amount=1, gate="g"))
        await GATES.reach("g")
        during = await w.read()
        assert (during.total, during.seq) == (1, 1), "what it gave so far is kept"
        assert (await w.write(amount=10)).total == 11
        assert not call.done
        GATES.open("g")
        assert reply(await call.answer()).total == 12, "and it sees what the others did"
        assert (await w.read()).seq == 3
        assert not w.host.homes["probe"].cells


@BOTH
async def test_a_reader_is_answered_while_a_call_is_outside_for_30_s(durable: bool) -> None:
    async with world(of(durable=durable), limits=HostLimits(idle_timeout_s=2)) as w:
        call = w.start(w.call("Act", how="out and back", amount=1, gate="g"))
        await GATES.reach("g")
        for _ in range(10):
            w.clock.advance(3)
            w.renew()
            w.host.tick()
            assert (await w.read()).total == 1
        GATES.open("g")
        assert reply(await call.answer()).total == 2


async def test_it_comes_back_in_its_order() -> None:
    async with world(Volatile) as w:
        call = w.start(w.call("Act", how="out and back", amount=1, gate="g"))
        await GATES.reach("g")
        first = w.start(w.call("Write", amount=10, gate="w"))
        await GATES.reach("w")
        GATES.open("g")
        await settle()
        last = w.start(w.call("Write", amount=100, gate="w"))
        GATES.open("w")
        totals = [reply(await one.answer()).total for one in (first, call, last)]
        assert totals == [11, 12, 112]
        assert LOG.index("end a 10") < LOG.index("back 1") < LOG.index("begin a 100")


async def test_the_block_runs_only_once_all_before_it_is_stored() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.read()
        store.gate = "commit"
        call = w.start(w.call("Act", how="out and back", amount=1, gate="g"))
        await GATES.reach("commit")
        await settle()
        assert LOG == []
        GATES.open("commit")
        await GATES.reach("g")
        assert LOG == ["out 1"]
        GATES.open("g")
        await call.answer()


async def test_if_that_fails_the_block_is_not_run_and_the_call_fails() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.read()
        store.unreachable = 1
        answer = await w.run(w.call("Act", how="commit fails", amount=5))
        assert reason(answer) is Reason.STORE_UNAVAILABLE, "though the method went on"
        assert LOG == ["STORE_UNAVAILABLE"]
        assert (await w.read()).total == 0


async def test_it_is_a_turn_of_its_own() -> None:
    async with world(Volatile) as w:
        call = w.start(w.call("Act", how="turns", gate="g"))
        await GATES.reach("g")
        w.clock.advance(2.5)
        GATES.open("g")
        assert reply(await call.answer()).text == "2.5"
        assert w.metrics.took_ns["Act"] == [int(2.5 * SECOND)], "and the call is one"


async def test_a_call_may_leave_more_than_once() -> None:
    async with world(Volatile) as w:
        call = w.start(w.call("Act", how="twice", amount=1, gate="g"))
        await GATES.reach("g")
        GATES.open("g")
        assert reply(await call.answer()).total == 4
        assert LOG == ["out 1", "back 1"] * 2


async def test_a_reader_goes_on_as_a_reader() -> None:
    async with world(Volatile) as w:
        calls = [w.start(w.call("ReadAct", gate="g")) for _ in range(2)]
        saving = w.start(w.call("ReadAct", gate="g", how="save"))
        for _ in range(3):
            await GATES.reach("g")
        await w.write(amount=5)
        GATES.open("g")
        for call in calls:
            answer = reply(await call.answer())
            assert (answer.total, answer.text) == (5, "True")
        assert refused(await saving.answer()).message == "RuntimeError"


async def test_a_value_returned_from_the_block_is_the_reply() -> None:
    async with world(Volatile) as w:
        answer = reply(await w.run(w.call("Act", how="return in the block")))
        assert answer.text == "from the block"
