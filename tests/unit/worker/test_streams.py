"""Server streams and `changes`: a read-only turn only between two items."""

from __future__ import annotations

import asyncio

import pytest

from seedbed.errors import Reason
from seedbed_worker.runtime import HostLimits
from tests.unit.worker.host_world import (
    GATES,
    LOG,
    TTL_NS,
    not_here,
    reason,
    refused,
    reply,
    settle,
    world,
)


async def test_a_stream_gives_the_present_state_and_then_each_change() -> None:
    async with world() as w:
        watching = w.watch(w.call("Watch", deadline_s=None))
        assert (await watching.item()).total == 0
        for total in (1, 2):
            await w.write()
            assert (await watching.item()).total == total


async def test_an_open_stream_holds_up_no_writer() -> None:
    async with world() as w:
        watching = w.watch(w.call("Watch"), credit=0)
        await settle()
        assert (await w.write()).total == 1
        assert watching.waiting == 0
        watching.job.grant(1)
        assert (await watching.item()).total == 0


async def test_a_slow_reader_gets_the_newest_only() -> None:
    async with world() as w:
        watching = w.watch(w.call("Watch"), credit=1)
        await watching.item()
        for _ in range(5):
            await w.write()
        watching.job.grant(1)
        # One item had been made when the first change came, and waits for credit.
        assert (await watching.item()).total == 1
        watching.job.grant(1)
        assert (await watching.item()).total == 5
        await settle()
        assert watching.waiting == 0


async def test_a_volatile_entity_always_gives_its_present_seq_first() -> None:
    async with world() as w:
        watching = w.watch(w.call("Watch", after=40))
        assert (await watching.item()).seq == 0


async def test_between_changes_and_the_next_yield_no_writer_runs() -> None:
    async with world() as w:
        watching = w.watch(w.call("Watch", gate="look"))
        await GATES.reach("look")
        writer = w.start(w.call("Write"))
        await settle()
        assert not writer.done
        GATES.open("look")
        await writer.answer()
        assert (await watching.item()).total == 0


async def test_a_unary_read_may_wait_for_a_change() -> None:
    async with world() as w:
        poll = w.start(w.call("ReadAct", how="long poll", after=0))
        await settle()
        assert not poll.done
        await w.write()
        assert reply(await poll.answer()).total == 1
        assert not w.host.homes["probe"].cells


async def test_a_reader_that_goes_away_ends_its_stream() -> None:
    async with world() as w:
        watching = w.watch(w.call("Watch"))
        await watching.item()
        watching.job.abandon()
        await settle()
        assert "watch of a ended" in LOG
        assert w.host.rt.streams == 0
        assert not w.host.homes["probe"].cells


async def test_a_reader_that_goes_away_during_a_turn_ends_it_after_the_turn() -> None:
    async with world() as w:
        watching = w.watch(w.call("Watch", gate="look"))
        await GATES.reach("look")
        watching.job.abandon()
        await settle()
        assert w.host.rt.streams == 1
        GATES.open("look")
        await settle()
        assert w.host.rt.streams == 0


async def test_a_stream_ends_at_its_deadline() -> None:
    async with world() as w:
        watching = w.watch(w.call("Watch", deadline_s=1))
        await watching.item()
        w.clock.advance(1.1)
        w.host.tick()
        assert reason(await watching.end()) is Reason.DEADLINE


async def test_a_reader_that_takes_nothing_is_ended() -> None:
    async with world(limits=HostLimits(stream_stall_s=3)) as w:
        watching = w.watch(w.call("Watch"), credit=0)
        await settle()
        w.clock.advance(3.1)
        w.host.tick()
        assert reason(await watching.end()) is Reason.OVERLOADED


async def test_a_lost_shard_ends_its_streams_with_moving() -> None:
    async with world() as w:
        between, in_turn = w.watch(w.call("Watch")), w.watch(w.call("Watch", gate="look"))
        await between.item()
        await GATES.reach("look")
        w.place("other")
        w.host.region_changed()
        assert reason(await between.end()) is Reason.MOVING
        assert reason(await in_turn.end()) is Reason.MOVING
        await settle()
        assert w.host.rt.streams == 0


async def test_no_item_leaves_after_the_lease() -> None:
    async with world() as w:
        watching = w.watch(w.call("Watch"), credit=0)
        await settle()
        w.clock.advance(TTL_NS / 1e9)
        watching.job.grant(1)
        answer = refused(await watching.end())
        assert answer.reason in (Reason.MOVING, Reason.FENCED)
        assert watching.waiting == 0


async def test_a_drain_ends_streams_with_moving_and_refuses_new_ones() -> None:
    async with world() as w:
        between, in_turn = w.watch(w.call("Watch")), w.watch(w.call("Watch", gate="look"))
        await between.item()
        await GATES.reach("look")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(w.host.leaving.drain(w.clock.now + 10**9))
            assert reason(await between.end()) is Reason.MOVING
            GATES.open("look")
            assert reason(await in_turn.end()) is Reason.MOVING
        assert not_here(await w.watch(w.call("Watch")).end())


async def test_streams_are_bounded_apart_from_calls() -> None:
    async with world(limits=HostLimits(mailbox_calls=2)) as w:
        open_ = [w.watch(w.call("Watch")) for _ in range(2)]
        for watching in open_:
            await watching.item()
        answer = refused(await w.watch(w.call("Watch")).end())
        assert answer.reason is Reason.OVERLOADED
        assert (await w.write()).total == 1


async def test_many_watchers_and_writers_all_come_to_an_end() -> None:
    async with world() as w:
        watchers = [w.watch(w.call("Watch")) for _ in range(20)]
        writers = [w.start(w.call("Write", amount=1)) for _ in range(50)]
        for writer in writers:
            reply(await writer.answer())
        for watching in watchers:
            while (await watching.item()).total < 50:
                pass


@pytest.mark.parametrize("credit", [1, 3])
async def test_no_more_items_than_credit(credit: int) -> None:
    async with world() as w:
        watching = w.watch(w.call("Watch"), credit=credit)
        for _ in range(10):
            await w.write()
            await settle()
        assert watching.waiting == credit
