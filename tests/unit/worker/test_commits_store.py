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


async def test_no_reply_leaves_and_no_turn_begins_before_it_is_stored() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        watching = w.watch(w.call("Watch"))
        await watching.item()
        store.gate = "commit"
        writer, reader = w.start(w.call("Write", amount=1)), w.start(w.call("Read"))
        await GATES.reach("commit")
        await settle()
        assert not writer.done
        assert not reader.done
        assert watching.waiting == 0
        GATES.open("commit")
        assert reply(await writer.answer()).total == 1
        assert reply(await reader.answer()).seq == 1
        assert (await watching.item()).seq == 1


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
        assert (answer.reason, answer.started) == (Reason.DEADLINE, True)
        after = w.start(w.call("Read"))
        await settle()
        assert not after.done, "the entity is taken until the store has answered"
        GATES.open("commit")
        assert reply(await after.answer()).total == 1
        assert await seen(w) == (1, 1, "True")


async def test_a_shard_lost_while_it_is_stored_is_fenced() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.read()
        store.gate = "commit"
        call = w.start(w.call("Write", amount=1))
        await GATES.reach("commit")
        w.place("other")
        w.host.region_changed()
        assert reason(await call.answer()) is Reason.FENCED
        GATES.open("commit")
        await settle()
        assert (w.host.rt.calls, w.host.rt.live) == (0, 0)


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


async def test_if_the_state_cannot_be_read_again_the_entity_leaves_memory() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.write(amount=1)
        watching = w.watch(w.call("Watch"))
        await watching.item()
        store.unreachable = 2
        failing = w.start(w.call("Write", amount=5))
        waiting = w.start(w.call("Read"))
        assert reason(await failing.answer()) is Reason.STORE_UNAVAILABLE
        assert reply(await waiting.answer()).total == 1
        assert reason(await watching.end()) is Reason.MOVING
        await settle()
        home = w.host.homes["probe"]
        assert (w.host.rt.live, w.host.rt.calls, len(home.cells)) == (1, 0, 0)


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
