"""What a host does with shards that are being handed off."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from probe.v1 import probe_pb2 as pb

from seedbed import ServicerContext
from seedbed.errors import Reason
from seedbed.ids import Generation, Incarnation
from seedbed.routing import Handoff
from seedbed.sharding import shard_of
from tests.unit.worker.host_world import (
    GATES,
    LOG,
    SECOND,
    SHARDS,
    Pending,
    Probe,
    World,
    not_here,
    reason,
    reply,
    settle,
    table,
    world,
)

NEXT = Incarnation("next")
LIMIT_S = 3


class Leaver(Probe, durable=False):
    async def deactivating(self) -> None:
        LOG.append(f"deactivating {self.key}")
        if self.key == "slow":
            await GATES.wait("slow")


class OutsideProbe(Probe, durable=False):
    async def Write(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        async with self.outside():
            await GATES.wait(request.gate)
        return self.answer()


def shard(key: str) -> int:
    return shard_of(key.encode(), SHARDS)


def hand_off(w: World, *keys: str, everything: bool = False) -> None:
    """A newer table with the same owner shows these keys' shards on their way."""
    w.generation += 1
    shards = range(SHARDS) if everything else {shard(key) for key in keys}
    handoffs = {one: Handoff(NEXT, LIMIT_S * 1000) for one in shards}
    newer = replace(table(1, "me"), generation=Generation(w.generation), handoffs=handoffs)
    w.region.observe([newer], w.clock.now)
    w.host.region_changed()


def released(w: World) -> set[int]:
    return {one.shard for one in w.region.released()}


async def test_shards_with_nothing_in_memory_are_released_at_once() -> None:
    async with world() as w:
        hand_off(w, everything=True)
        assert released(w) == set(range(SHARDS))


async def test_a_running_turn_ends_and_answers_and_no_new_one_begins() -> None:
    async with world() as w:
        running = w.start(w.call("Write", amount=1, gate="g"))
        await GATES.reach("g")
        hand_off(w, "a")
        assert not_here(await w.run(w.call("Write")))
        await settle()
        assert not released(w)
        GATES.open("g")
        assert reply(await running.answer()).total == 1
        await settle()
        assert released(w) == {shard("a")}
        assert not w.host.homes["probe"].entities


async def test_the_way_that_calls_usually_take_admits_nothing_either() -> None:
    async with world() as w:
        await w.write()
        running = w.start(w.call("Write", amount=1, gate="g"))
        await GATES.reach("g")
        hand_off(w, "a")
        again = w.start(w.call("Write", "b", amount=1))
        assert reply(await again.answer()).total == 1, "only this shard"
        GATES.open("g")
        await running.answer()
        assert not_here(await w.run(w.call("Write")))


async def test_deactivating_runs_before_the_release() -> None:
    async with world(Leaver) as w:
        await w.write("slow")
        hand_off(w, "slow")
        await GATES.reach("slow")
        assert not released(w)
        assert not_here(await w.run(w.call("Write", "slow"))), "no other life here"
        GATES.open("slow")
        await settle()
        assert released(w) == {shard("slow")}


async def test_a_turn_that_is_stuck_loses_its_shard_at_the_limit() -> None:
    async with world(Leaver) as w:
        stuck = w.start(w.call("Write", gate="never"))
        await GATES.reach("never")
        hand_off(w, "a")
        w.clock.advance(LIMIT_S + 0.1)
        w.host.tick()
        assert reason(await stuck.answer()) is Reason.FENCED
        await settle()
        assert released(w) == {shard("a")}
        assert "deactivating a" not in LOG


async def test_a_turn_that_ends_after_the_limit_does_not_answer() -> None:
    async with world() as w:
        late = w.start(w.call("Write", amount=1, gate="g"))
        await GATES.reach("g")
        hand_off(w, "a")
        w.clock.advance(LIMIT_S)
        w.renew()  # the lease is not what ends it
        GATES.open("g")  # and no timer has come
        assert reason(await late.answer()) is Reason.FENCED


async def test_a_table_that_repeats_the_hand_off_prolongs_nothing() -> None:
    async with world() as w:
        late = w.start(w.call("Write", amount=1, gate="g"))
        await GATES.reach("g")
        hand_off(w, "a")
        w.clock.advance(LIMIT_S - 1)
        w.renew()
        hand_off(w, "a")
        w.clock.advance(1)
        GATES.open("g")
        assert reason(await late.answer()) is Reason.FENCED


async def test_streams_move_and_a_busy_shard_does_not_hold_an_idle_one() -> None:
    async with world() as w:
        watching = w.watch(w.call("Watch", "b"))
        await watching.item()
        running = w.start(w.call("Write", "a", gate="g"))
        await GATES.reach("g")
        assert shard("a") != shard("b")
        hand_off(w, everything=True)
        assert reason(await watching.end()) is Reason.MOVING
        await settle()
        assert released(w) == set(range(SHARDS)) - {shard("a")}
        GATES.open("g")
        await running.answer()
        await settle()
        assert released(w) == set(range(SHARDS))


async def test_a_released_shard_is_never_served_again_in_its_epoch() -> None:
    async with world() as w:
        await w.write()
        hand_off(w, "a")
        await settle()
        hand_off(w, "a")
        hand_off(w)  # a table that has forgotten it
        assert not_here(await w.run(w.call("Write")))
        w.place("me")
        w.host.region_changed()
        assert (await w.write()).total == 1
        assert not released(w)


async def test_a_new_epoch_right_after_the_last_turn_is_not_lost_with_the_old_one() -> None:
    async with world() as w:
        fresh: list[Pending] = []

        def begin_anew() -> None:
            w.place("me")
            w.host.region_changed()
            fresh.append(w.start(w.call("Write", amount=5, gate="h")))

        # Between the end of the turn and the release, which comes when the loop goes round.
        loop = asyncio.get_running_loop()
        w.host.submit(w.call("Write", gate="g"), lambda answer: loop.call_soon(begin_anew))
        await GATES.reach("g")
        hand_off(w, "a")
        GATES.open("g")
        await GATES.reach("h")
        await settle()
        GATES.open("h")
        assert reply(await fresh[0].answer()).total == 5


@pytest.mark.parametrize("cls", [Probe, Leaver])
async def test_many_idle_entities_leave_in_one_batch(cls: type[Probe]) -> None:
    async with world(cls) as w:
        keys = [f"k{number}" for number in range(3000)]
        for key in keys:
            await w.write(key)
        hand_off(w, everything=True)
        while w.host.rt.live:
            await settle()
        await settle()
        assert released(w) == set(range(SHARDS))
        assert sum(line.startswith("deactivating") for line in LOG) == (
            len(keys) if cls is Leaver else 0
        )


async def test_a_drain_ends_when_the_tables_name_another_owner() -> None:
    async with world() as w, asyncio.TaskGroup() as tasks:
        draining = tasks.create_task(w.host.leaving.handed_off(w.clock.now + 60 * SECOND))
        assert (await w.write()).total == 1, "it goes on serving until then"
        hand_off(w, everything=True)
        await settle()
        assert not draining.done()
        w.place("other")
        w.host.region_changed()
        assert await draining


async def test_a_drain_gives_up_at_its_deadline() -> None:
    async with world() as w, asyncio.TaskGroup() as tasks:
        draining = tasks.create_task(w.host.leaving.handed_off(w.clock.now + 2 * SECOND))
        await settle()
        w.clock.advance(2.1)
        w.host.tick()
        assert not await draining


async def test_what_is_left_at_the_end_goes_to_nobody_and_no_seed_is_told() -> None:
    async with world(Leaver) as w:
        await w.write("b")
        running = w.start(w.call("Write", "a", amount=1, gate="g"))
        await GATES.reach("g")
        hand_off(w, "a")
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(w.host.leaving.drain(w.clock.now + LIMIT_S * SECOND))
            await settle()
            assert LOG[-1] == "deactivating b"
            assert not ending.done()
            GATES.open("g")
            assert reply(await running.answer()).total == 1
        assert LOG[-1] == "deactivating a"
        assert released(w) == {shard("a")}
        assert w.host.rt.live == 0


async def test_a_drain_of_a_worker_that_is_fenced_is_over() -> None:
    async with world() as w, asyncio.TaskGroup() as tasks:
        draining = tasks.create_task(w.host.leaving.handed_off(w.clock.now + 60 * SECOND))
        await settle()
        w.region.fence()
        w.host.drop_all()
        assert await draining


async def test_a_call_outside_its_turn_is_waited_for() -> None:
    async with world(OutsideProbe) as w:
        away = w.start(w.call("Write", gate="g"))
        await GATES.reach("g")
        hand_off(w, "a")
        await settle()
        assert not released(w)
        GATES.open("g")
        reply(await away.answer())
        await settle()
        assert released(w) == {shard("a")}
