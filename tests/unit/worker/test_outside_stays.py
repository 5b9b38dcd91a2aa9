"""An entity stays where it is for as long as one of its calls is outside."""

from __future__ import annotations

import asyncio

from seedbed.errors import Reason
from seedbed_worker.runtime import HostLimits
from tests.unit.worker.commits_world import Store
from tests.unit.worker.host_world import (
    GATES,
    SECOND,
    reason,
    refused,
    reply,
    settle,
    world,
)
from tests.unit.worker.outside_world import Kept, Volatile


async def test_a_passivation_waits_for_who_is_outside() -> None:
    async with world(Kept) as w:
        call = w.start(w.call("Act", how="passivate", amount=1, gate="g"))
        await GATES.reach("g")
        await w.write(amount=10)
        entity = w.host.homes["probe"].entities["a"]
        w.host.homes["probe"].retire(entity)
        await settle()
        assert w.host.homes["probe"].entities["a"] is entity
        GATES.open("g")
        assert reply(await call.answer()).total == 12
        await settle()
        assert w.host.rt.live == 0
        assert (await w.read()).total == 12


async def test_a_passivation_waits_for_who_goes_outside_before_it_begins() -> None:
    async with world(Kept) as w:
        await w.write(amount=1)
        call = w.start(w.call("Act", how="wait, then out and back", amount=10, gate="g"))
        await GATES.reach("in turn")
        entity = w.host.homes["probe"].entities["a"]
        w.host.homes["probe"].retire(entity)  # it stands in line, before all others
        GATES.open("in turn")
        await GATES.reach("g")
        assert (await w.write(amount=100)).total == 111
        assert w.host.homes["probe"].entities["a"] is entity
        GATES.open("g")
        assert reply(await call.answer()).total == 121
        await settle()
        assert (w.host.rt.live, w.host.rt.calls) == (0, 0)


async def test_the_entity_limit_finds_it_busy() -> None:
    async with world(Volatile, limits=HostLimits(max_entities=1)) as w:
        call = w.start(w.call("Act", how="out and back", amount=1, gate="g"))
        await GATES.reach("g")
        await w.read()
        assert reason(await w.run(w.call("Write", "b"))) is Reason.OVERLOADED
        GATES.open("g")
        await call.answer()
        await w.write("b")
        assert list(w.host.homes["probe"].entities) == ["b"]


async def test_it_may_idle_out_after_it_has_come_back() -> None:
    async with world(Volatile, limits=HostLimits(idle_timeout_s=2)) as w:
        for how in ("out and back", "fail in the block and go on"):
            call = w.start(w.call("Act", how=how, amount=1, gate="g"))
            GATES.open("g")
            await call.answer()
            assert w.host.rt.live == 1
            w.clock.advance(2.5)
            w.host.tick()
            assert w.host.rt.live == 0
            w.renew()


async def test_a_drain_waits_for_who_is_outside() -> None:
    async with world(Kept) as w:
        call = w.start(w.call("Act", how="out and back", amount=1, gate="g"))
        await GATES.reach("g")
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(w.host.leaving.drain(w.clock.now + 3 * SECOND))
            await settle()
            assert not draining.done()
            GATES.open("g")
            assert reply(await call.answer()).total == 2
        assert w.host.rt.live == 0


async def test_a_drain_ends_at_its_deadline() -> None:
    async with world(Volatile) as w:
        call = w.start(w.call("Act", how="out and back", amount=1, gate="never"))
        await GATES.reach("never")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(w.host.leaving.drain(w.clock.now + 3 * SECOND))
            await settle()
            w.clock.advance(3.1)
            w.host.tick()
        assert reason(await call.answer()) is Reason.FENCED


async def test_the_loss_of_the_memory_ends_who_is_outside() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        call = w.start(w.call("Act", how="out and back", amount=1, gate="g"))
        await GATES.reach("g")
        store.unreachable = 1
        assert reason(await w.run(w.call("Write", amount=5))) is Reason.STORE_UNAVAILABLE
        assert reason(await call.answer()) is Reason.FENCED
        assert (await w.read()).total == 1
        await settle()
        assert not w.host.homes["probe"].cells


async def test_calls_that_are_outside_are_bounded() -> None:
    async with world(Volatile, limits=HostLimits(mailbox_calls=2)) as w:
        calls = [w.start(w.call("Act", how="out and back", gate="g")) for _ in range(2)]
        for _ in calls:
            await GATES.reach("g")
        answer = refused(await w.run(w.call("Act", how="out and back")))
        assert "SEEDBED_MAILBOX_CALLS" in answer.message
        GATES.open("g")
        for call in calls:
            await call.answer()
        await w.write()


async def test_streams_and_who_is_outside_do_not_mind_each_other() -> None:
    async with world(Volatile) as w:
        watching = w.watch(w.call("Watch"))
        assert (await watching.item()).seq == 0
        call = w.start(w.call("Act", how="out and back", amount=1, gate="g"))
        await GATES.reach("g")
        assert (await watching.item()).total == 1
        GATES.open("g")
        await call.answer()
        assert (await watching.item()).total == 2
        watching.job.abandon()
        await settle()
        assert not w.host.homes["probe"].cells
