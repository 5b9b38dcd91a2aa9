"""What goes wrong in and around a block of outside(), and what is kept all the same."""

from __future__ import annotations

import pytest

from seedbed.errors import Reason
from tests.unit.worker.commits_world import Store
from tests.unit.worker.host_world import (
    GATES,
    LOG,
    not_here,
    reason,
    refused,
    reply,
    settle,
    world,
)
from tests.unit.worker.outside_world import BOTH, Kept, Volatile, of


@BOTH
async def test_an_error_in_the_block_fails_the_call_and_takes_nothing_back(durable: bool) -> None:
    async with world(of(durable=durable)) as w:
        call = w.start(w.call("Act", how="fail in the block", amount=1, gate="g"))
        await GATES.reach("g")
        await w.write(amount=10)
        GATES.open("g")
        answer = refused(await call.answer())
        assert (answer.message, answer.started) == ("in the block", True)
        await settle()
        assert w.host.rt.live == 0, "passivate() was given before the block, and kept"
        after = await w.read()
        assert (after.total, after.seq) == ((11, 2) if durable else (0, 0))


async def test_an_error_in_the_block_leaves_the_turn_of_another_alone() -> None:
    async with world(Kept) as w:
        call = w.start(w.call("Act", how="fail in the block and go on", amount=1, gate="g"))
        await GATES.reach("g")
        other = w.start(w.call("Act", how="change, then wait", amount=10))
        await GATES.reach("in turn")
        GATES.open("g")
        assert refused(await call.answer()).message == "in the block"
        GATES.open("in turn")
        assert reply(await other.answer()).total == 11


async def test_who_catches_that_error_has_no_turn_all_the_same() -> None:
    async with world(Kept) as w:
        answer = refused(await w.run(w.call("Act", how="fail in the block and go on", amount=1)))
        assert answer.message == "in the block"
        assert "handle errors within the block" in LOG[0]
        assert (await w.read()).total == 1
        assert not w.host.homes["probe"].cells


async def test_a_turn_after_the_block_that_fails_takes_back_only_itself() -> None:
    async with world(Kept) as w:
        call = w.start(w.call("Act", how="fail after it", amount=1, gate="g"))
        await GATES.reach("g")
        await w.write(amount=10)
        GATES.open("g")
        assert refused(await call.answer()).message == "ZeroDivisionError"
        after = await w.read()
        assert (after.total, after.seq) == (11, 2)


@pytest.mark.parametrize("how", ["out and back", "ignore the deadline"])
async def test_a_deadline_in_the_block_enters_no_new_turn(how: str) -> None:
    async with world(Volatile) as w:
        call = w.start(w.call("Act", how=how, amount=1, gate="never", deadline_s=1))
        await GATES.reach("never")
        w.clock.advance(1.1)
        w.host.tick()
        answer = refused(await call.answer())
        assert (answer.reason, answer.started) == (Reason.DEADLINE, True)
        await settle()
        assert ["ignored" if how == "ignore the deadline" else "out 1"] == LOG
        assert not w.host.homes["probe"].cells
        assert w.host.rt.calls == 0


async def test_who_ignores_that_does_not_even_stand_in_line() -> None:
    async with world(Volatile) as w:
        call = w.start(w.call("Act", how="ignore the deadline", gate="g", deadline_s=1))
        await GATES.reach("g")
        other = w.start(w.call("Write", gate="w"))
        await GATES.reach("w")
        w.clock.advance(1.1)
        w.host.tick()
        await call.answer()
        await settle()
        assert w.host.rt.calls == 1, "nothing is left of the first"
        GATES.open("w")
        await other.answer()


async def test_a_deadline_on_the_way_back_enters_no_new_turn() -> None:
    async with world(Volatile) as w:
        call = w.start(w.call("Act", how="out and back", amount=1, gate="g", deadline_s=1))
        await GATES.reach("g")
        writer = w.start(w.call("Write", amount=10, gate="w"))
        await GATES.reach("w")
        GATES.open("g")
        await settle()
        w.clock.advance(1.1)
        w.host.tick()
        answer = refused(await call.answer())
        assert answer.reason is Reason.DEADLINE
        assert answer.message == (
            "the deadline passed while it ran: Write of this entity has run for 1.1 s"
        )
        GATES.open("w")
        await writer.answer()
        assert "back 1" not in LOG
        assert not w.host.homes["probe"].cells


async def test_a_deadline_while_its_first_part_is_stored_runs_no_block() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.read()
        store.gate = "commit"
        call = w.start(w.call("Act", how="out and back", amount=1, gate="g", deadline_s=1))
        await GATES.reach("commit")
        w.clock.advance(1.1)
        w.host.tick()
        assert reason(await call.answer()) is Reason.DEADLINE
        GATES.open("commit")
        assert (await w.read()).total == 1
        assert LOG == []


async def test_a_shard_lost_meanwhile_leaves_the_outcome_unknown() -> None:
    async with world(Volatile) as w:
        call = w.start(w.call("Act", how="out and back", amount=1, gate="g"))
        await GATES.reach("g")
        w.place("other")
        w.host.region_changed()
        answer = refused(await call.answer())
        assert (answer.reason, answer.started) == (Reason.FENCED, True)
        await settle()
        assert (w.host.rt.calls, w.host.rt.live) == (0, 0)
        assert not_here(await w.run(w.call("Read")))


async def test_a_shard_lost_without_a_word_is_noticed_on_the_way_back() -> None:
    async with world(Volatile) as w:
        call = w.start(w.call("Act", how="out and back", amount=1, gate="g"))
        await GATES.reach("g")
        w.place("other")
        GATES.open("g")
        assert reason(await call.answer()) is Reason.FENCED
        assert LOG == ["out 1"]
