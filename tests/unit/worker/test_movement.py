"""What a host does when tables, leases and incarnations change."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from seedbed.errors import Reason
from seedbed.ids import Epoch, Generation
from seedbed_worker.runtime import HostLimits
from tests.unit.worker.host_world import (
    GATES,
    LOG,
    SECOND,
    TTL_NS,
    Probe,
    not_here,
    reason,
    refused,
    reply,
    settle,
    table,
    unary,
    world,
)


class Leaver(Probe, durable=False):
    async def deactivating(self) -> None:
        LOG.append(f"deactivating {self.key}")
        if self.key == "slow":
            await GATES.wait("slow")


async def test_a_lost_shard_is_forgotten_without_the_hook() -> None:
    async with world(Leaver) as w:
        await w.write("a")
        running = w.start(w.call("Write", "a", amount=1, gate="g"))
        queued = w.start(w.call("Write", "a"))
        await GATES.reach("g")
        w.place("other")
        w.host.region_changed()
        assert reason(await running.answer()) is Reason.FENCED
        assert not_here(await queued.answer())
        await settle()
        home = w.host.homes["probe"]
        assert not home.entities
        assert not home.cells
        assert (w.host.rt.live, w.host.rt.calls) == (0, 0)
        assert "deactivating a" not in LOG
        assert not_here(await w.run(w.call("Write")))


async def test_a_shard_that_comes_back_under_a_new_epoch_starts_fresh() -> None:
    async with world() as w:
        await w.write()
        w.place("other")
        w.place("me")
        w.host.region_changed()
        assert (await w.write()).total == 1


async def test_a_new_epoch_that_the_loop_has_not_heard_of_starts_fresh_too() -> None:
    async with world() as w:
        await w.write()
        w.place("me")
        assert (await w.write()).total == 1


async def test_a_newer_table_with_the_same_owner_and_epoch_changes_nothing() -> None:
    async with world() as w:
        await w.write()
        w.region.observe([replace(table(1, "me"), generation=Generation(9))], 0)
        w.host.region_changed()
        assert (await w.write()).total == 2


async def test_dropping_all_answers_everybody() -> None:
    async with world() as w:
        running = w.start(w.call("Write", gate="g"))
        queued = w.start(w.call("Write"))
        watching = w.watch(w.call("Watch", "b"))
        await watching.item()
        await GATES.reach("g")
        w.region.fence()
        w.lease.fence()
        w.host.drop_all(Reason.FENCED)
        assert reason(await running.answer()) is Reason.FENCED
        assert not_here(await queued.answer())
        assert reason(await watching.end()) is Reason.MOVING
        assert not_here(await w.run(w.call("Write")))
        w.rejoin("me again")
        assert (await w.write()).total == 1


async def test_a_turn_that_ignores_its_cancellation_answers_nothing_late() -> None:
    class Stubborn(Probe, durable=False):
        async def Write(self, request, context):  # type: ignore[no-untyped-def]
            while True:
                try:
                    await GATES.wait("g")
                    self.save()
                    return self.answer()
                except asyncio.CancelledError:
                    LOG.append("ignored")

    async with world(Stubborn) as w:
        call = w.start(w.call("Write", deadline_s=1))
        await GATES.reach("g")
        w.clock.advance(1.1)
        w.host.tick()
        assert reason(await call.answer()) is Reason.DEADLINE
        waiting = w.start(w.call("Read"))
        await settle()
        assert not waiting.done, "the entity is taken until the turn really is over"
        GATES.open("g")
        after = reply(await waiting.answer())
        assert after.seq == 0, "a turn that ended at its deadline keeps nothing"


async def test_a_call_by_a_newer_table_waits_for_it() -> None:
    async with world() as w:
        w.place("other")
        w.host.region_changed()
        call = w.call("Write", amount=4)
        call.generation, call.epoch = Generation(3), Epoch(3)
        waiting = w.start(call)
        await settle()
        assert not waiting.done
        w.place("me")
        w.host.region_changed()
        assert reply(await waiting.answer()).total == 4


async def test_a_call_that_waits_in_vain_is_refused_after_a_ttl() -> None:
    async with world() as w:
        call = w.call("Write")
        call.generation = Generation(9)
        call.epoch = Epoch(9)
        waiting = w.start(call)
        for _ in range(3):
            w.clock.advance(TTL_NS / 2e9)
            w.renew()
            w.host.region_changed()
            w.host.tick()
        assert not_here(await waiting.answer())


async def test_a_call_that_waits_past_its_deadline_is_told_so() -> None:
    async with world() as w:
        call = w.call("Write", deadline_s=1)
        call.generation, call.epoch = Generation(9), Epoch(9)
        waiting = w.start(call)
        w.clock.advance(1.1)
        w.host.tick()
        answer = refused(await waiting.answer())
        assert (answer.reason, answer.started) == (Reason.DEADLINE, False)


async def test_a_higher_epoch_that_no_table_brings_is_reported() -> None:
    async with world() as w:
        call = w.call("Write")
        call.epoch, call.generation, call.from_seed = Epoch(7), Generation(1), True
        waiting = w.start(call)
        await settle()
        assert not waiting.done
        w.clock.advance(TTL_NS / 1e9 + 0.1)
        w.host.tick()
        assert not_here(await waiting.answer())
        assert w.epochs_seen == [("probe", call.shard, 7)]


async def test_it_is_reported_though_each_call_that_shows_it_ends_sooner() -> None:
    async with world() as w:
        for _ in range(3):
            call = w.call("Write", deadline_s=TTL_NS / 2e9)
            call.epoch, call.generation, call.from_seed = Epoch(7), Generation(1), True
            waiting = w.start(call)
            await settle()
            w.clock.advance(TTL_NS / 2e9 + 0.1)
            w.host.tick()
            assert refused(await waiting.answer()).reason is Reason.DEADLINE
        assert [epoch for _, _, epoch in w.epochs_seen] == [7]


async def test_without_a_seed_no_turn_begins_until_there_is_one() -> None:
    async with world() as w:
        w.lease.detached()
        waiting = w.start(w.call("Write", amount=2))
        await settle()
        assert not waiting.done
        w.renew()
        w.host.region_changed()
        assert reply(await waiting.answer()).total == 2


async def test_calls_in_line_when_the_seed_is_lost_wait_too() -> None:
    async with world() as w:
        running = w.start(w.call("Write", amount=1, gate="g"))
        queued = [w.start(w.call("Write", amount=n)) for n in (2, 3)]
        await GATES.reach("g")
        w.lease.detached()
        GATES.open("g")
        await running.answer()
        await settle()
        assert not any(call.done for call in queued)
        w.renew()
        w.host.region_changed()
        assert [reply(await call.answer()).total for call in queued] == [3, 6]


async def test_a_drain_lets_running_turns_end_and_refuses_the_rest() -> None:
    async with world(Leaver) as w:
        await w.write("b")
        running = w.start(w.call("Write", amount=1, gate="g"))
        queued = w.start(w.call("Write"))
        await GATES.reach("g")
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(w.host.leaving.drain(w.clock.now + 3 * SECOND))
            assert not_here(await queued.answer())
            assert not_here(await w.run(w.call("Write", "b")))
            await settle()
            assert not draining.done()
            GATES.open("g")
            assert reply(await running.answer()).total == 1
        assert {"deactivating a", "deactivating b"} <= set(LOG)
        assert w.host.rt.live == 0


async def test_a_drain_ends_at_its_deadline() -> None:
    async with world(Leaver) as w:
        running = w.start(w.call("Write", gate="never"))
        await GATES.reach("never")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(w.host.leaving.drain(w.clock.now + 3 * SECOND))
            await settle()
            w.clock.advance(3.1)
            w.host.tick()
        assert reason(await running.answer()) is Reason.FENCED


async def test_a_drain_does_not_wait_for_ever_for_a_hook() -> None:
    async with world(Leaver) as w:
        await w.write("slow")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(w.host.leaving.drain(w.clock.now + 3 * SECOND))
            await GATES.reach("slow")
            w.clock.advance(3.1)
            w.host.tick()
        await settle()
        assert w.host.rt.live == 0


async def test_a_key_that_does_not_belong_to_its_shard_is_refused() -> None:
    async with world() as w:
        call = w.call("Write", "a")
        call.shard = (call.shard + 1) % 16
        assert reason(await w.run(call)) is Reason.BAD_REQUEST
        await w.write("a")
        assert reason(await w.run(call)) is Reason.BAD_REQUEST
        assert w.host.rt.live == 1


async def test_held_calls_are_bounded() -> None:
    async with world(limits=HostLimits(worker_calls=2)) as w:
        w.lease.detached()
        waiting = [w.start(w.call("Write")) for _ in range(2)]
        assert reason(await w.run(w.call("Write"))) is Reason.OVERLOADED
        w.renew()
        w.host.region_changed()
        for call in waiting:
            await call.answer()


async def test_a_host_that_does_not_run_admits_nothing() -> None:
    async with world() as w:
        host = w.host
        lease = w.lease
    w.host.begin(lease)
    assert not_here(await unary(host, w.call("Write")))


async def test_a_turn_that_is_ended_before_its_first_step_leaves_nothing() -> None:
    async with world() as w:
        call, watching = w.start(w.call("Write")), w.watch(w.call("Watch", "b"))
        w.place("other")
        w.host.region_changed()  # before their tasks have run at all
        assert not_here(await call.answer())
        assert not_here(await watching.end())
        await settle()
        assert (w.host.rt.calls, w.host.rt.streams, w.host.rt.live) == (0, 0, 0)
        w.place("me")
        assert (await w.write()).total == 1
        assert LOG.count("begin a 0") == 0


async def test_a_reader_that_goes_before_the_first_step_frees_the_entity() -> None:
    async with world() as w:
        watching = w.watch(w.call("Watch"))
        watching.job.abandon()
        assert (await w.write()).total == 1
        assert w.host.rt.streams == 0


async def test_after_drop_all_nothing_is_admitted_before_the_next_lease() -> None:
    async with world() as w:
        w.host.drop_all(Reason.FENCED)
        assert not_here(await w.run(w.call("Write")))
        w.host.begin(w.lease)
        assert (await w.write()).total == 1
