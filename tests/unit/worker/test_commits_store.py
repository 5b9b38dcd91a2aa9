"""What a store gives and takes: turns that are undone, commits that wait or fail."""

from __future__ import annotations

import asyncio

import pytest

from seedbed.errors import Reason
from tests.unit.worker.commits_world import Kept, Store, fails, seen
from tests.unit.worker.host_world import (
    GATES,
    reason,
    refused,
    reply,
    settle,
    world,
)


async def test_turns_go_on_while_it_is_stored_and_no_reply_leaves_before() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        watching = w.watch(w.call("Watch"))
        await watching.item()
        store.gate = "commit"
        calls = [w.start(w.call("Write", amount=1)) for _ in range(3)]
        reader = w.start(w.call("Read"))
        failing = w.start(w.call("Act", how="abort"))
        for _ in calls:
            await GATES.reach("commit")
        late = w.watch(w.call("Watch"))
        await settle()
        assert not any(call.done for call in (*calls, reader, failing))
        assert (watching.waiting, late.waiting) == (0, 0)
        GATES.open("commit")
        assert [reply(await call.answer()).total for call in calls] == [1, 2, 3]
        assert reply(await reader.answer()).seq == 3
        assert refused(await failing.answer()).reason is None
        assert (await watching.item()).seq == 3
        assert (await late.item()).seq == 3


async def test_no_stream_ends_well_before_what_it_has_seen_is_stored() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.read()
        store.gate = "commit"
        call = w.start(w.call("Write", amount=1))
        await GATES.reach("commit")
        watching = w.watch(w.call("Watch", how="end"))
        await settle()
        assert not watching.ended
        GATES.open("commit")
        assert reply(await call.answer()).total == 1
        assert refused(await watching.end()).code == 0


async def test_what_is_not_stored_takes_along_all_that_was_built_on_it() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.write(amount=1)
        store.gate = "commit"
        first = w.start(w.call("Write", amount=10))
        await GATES.reach("commit")
        reader = w.start(w.call("Read"))
        running = w.start(w.call("Write", amount=100, gate="turn"))
        await GATES.reach("turn")
        waiting = w.start(w.call("Write", amount=1000))
        store.unreachable, store.gate = 1, ""
        GATES.open("commit")
        for call in (first, reader, running):
            assert reason(await call.answer()) is Reason.STORE_UNAVAILABLE
        assert reply(await waiting.answer()).total == 1001, "it begins on what is stored"
        assert await seen(w) == (1001, 2, "True")


async def test_a_deadline_that_passes_while_it_is_stored_does_not_stop_that() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.read()
        store.gate = "commit"
        late = w.start(w.call("Write", amount=1, deadline_s=1))
        await GATES.reach("commit")
        w.clock.advance(1.1)
        w.host.tick()
        answer = refused(await late.answer())
        assert (answer.reason, answer.started) == (Reason.OUTCOME_UNKNOWN, True)
        after = w.start(w.call("Read"))
        await settle()
        assert not after.done
        GATES.open("commit")
        assert reply(await after.answer()).total == 1
        assert await seen(w) == (1, 1, "True")
        assert w.host.rt.calls == 0


async def test_what_is_stored_is_answered_though_the_shard_was_lost_meanwhile() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.read()
        store.gate = "commit"
        writer, reader = w.start(w.call("Write", amount=1)), w.start(w.call("Read"))
        await GATES.reach("commit")
        await settle()
        w.place("other")
        w.host.region_changed()
        GATES.open("commit")
        assert reply(await writer.answer()).total == 1
        assert reason(await reader.answer()) is Reason.FENCED, "it was read from memory"
        assert (w.host.rt.calls, w.host.rt.live) == (0, 0)


async def test_an_entity_that_leaves_memory_meanwhile_is_read_as_it_is_stored() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.read()
        store.gate = "commit"
        writer = w.start(w.call("Write", amount=1))
        await GATES.reach("commit")
        home = w.host.homes["probe"]
        home.retire(home.entities["a"])
        assert w.host.rt.live == 0
        reader = w.start(w.call("Read"))
        await settle()
        assert not reader.done
        GATES.open("commit")
        assert reply(await writer.answer()).total == 1
        assert reply(await reader.answer()).total == 1


class Parting(Kept):
    async def deactivating(self) -> None:
        self.state.value += 1
        self.save()


async def test_an_entity_has_not_left_before_what_it_saves_then_is_stored() -> None:
    store = Store()
    async with world(Parting, store=store) as w:
        await w.read()
        store.gate = "commit"
        home = w.host.homes["probe"]
        home.retire(home.entities["a"])
        await GATES.reach("commit")
        await settle()
        assert w.host.rt.live == 1
        GATES.open("commit")
        await settle()
        assert w.host.rt.live == 0
        assert reply(await w.run(w.call("Read"))).total == 1


async def test_a_drain_waits_for_what_is_being_stored() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.read()
        store.gate = "commit"
        call = w.start(w.call("Write", amount=1))
        await GATES.reach("commit")
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(w.host.leaving.drain(w.clock.now + 3 * 10**9))
            await settle()
            assert not draining.done()
            GATES.open("commit")
            assert reply(await call.answer()).total == 1


@pytest.mark.parametrize("how", ["ignore the deadline", "ignore it, unsaved"])
async def test_a_turn_that_ignores_its_deadline_is_undone(how: str) -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.write(amount=1)
        call = w.start(w.call("Act", how=how, amount=5, deadline_s=1))
        await GATES.reach("never")
        w.clock.advance(1.1)
        w.host.tick()
        assert reason(await call.answer()) is Reason.DEADLINE
        assert await seen(w) == (1, 1, "True")
        assert store.commits == 1


async def test_a_commit_that_fails_fails_its_turn() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.write(amount=1)
        store.unreachable = 1
        assert reason(await w.run(w.call("Write", amount=5))) is Reason.STORE_UNAVAILABLE
        assert await seen(w) == (1, 1, "True")


async def test_after_a_commit_whose_answer_is_lost_the_store_decides() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.write(amount=1)
        store.lost_answer = True
        assert reason(await w.run(w.call("Write", amount=5))) is Reason.STORE_UNAVAILABLE
        assert await seen(w) == (6, 2, "True")


async def test_so_it_does_if_the_state_was_saved_as_it_was() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.write(amount=1)
        store.lost_answer = True
        assert reason(await w.run(w.call("Write", amount=0))) is Reason.STORE_UNAVAILABLE
        assert await seen(w) == (1, 2, "True")


async def test_after_a_commit_that_fails_the_entity_leaves_memory() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.write(amount=1)
        watching = w.watch(w.call("Watch"))
        await watching.item()
        store.unreachable = 1
        failing = w.start(w.call("Write", amount=5))
        assert reason(await failing.answer()) is Reason.STORE_UNAVAILABLE
        assert reason(await watching.end()) is Reason.MOVING
        await settle()
        home = w.host.homes["probe"]
        assert (w.host.rt.live, w.host.rt.calls, len(home.cells)) == (0, 0, 0)


async def test_a_load_that_fails_makes_no_entity() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        store.unreachable = 1
        answer = refused(await w.run(w.call("Write", amount=5)))
        assert (answer.reason, answer.started) == (Reason.STORE_UNAVAILABLE, False)
        assert w.host.rt.live == 0
        assert (await w.write(amount=1)).total == 1


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        ("no number", "Expected `int`, got `str` - at `self.state.value`"),
        ("no state", "self.state.value is of type object"),
    ],
)
async def test_a_state_that_cannot_be_stored_fails_its_turn_and_says_where(
    how: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(Kept) as w:
        await w.write(amount=1)
        assert await fails(w, how) == "StateError"
        assert await seen(w) == (1, 1, "True")
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info is not None
    text = str(record.exc_info[1])
    assert "tests.unit.worker.commits_world:Kept 'a'" in text
    assert fault in text
