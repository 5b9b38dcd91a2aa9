"""The end of a turn: its changes are kept, all of them or none."""

from __future__ import annotations

import pytest

from seedbed_worker.runtime import HostLimits
from tests.unit.worker.commits_world import Kept, Store, Volatile, does, fails, seen
from tests.unit.worker.host_world import (
    Probe,
    refused,
    world,
)

BOTH = pytest.mark.parametrize("cls", [Volatile, Kept])


# Plain calls, alike with and without a store.


@BOTH
async def test_an_entity_exists_from_its_first_saved_turn_to_a_deletion(cls: type[Probe]) -> None:
    async with world(cls) as w:
        assert await seen(w) == (0, 0, "False")
        first = await w.write(amount=3)
        assert (first.seq, first.text) == (0, "False"), "not before the end of the turn"
        assert await seen(w) == (3, 1, "True")
        deleting = await does(w, "delete")
        assert (deleting.total, deleting.seq, deleting.text) == (3, 1, "True")
        assert await seen(w) == (0, 2, "False"), "a fresh state; seq went on"
        await w.write(amount=4)
        assert await seen(w) == (4, 3, "True")


@BOTH
async def test_the_later_of_save_and_delete_counts(cls: type[Probe]) -> None:
    async with world(cls) as w:
        await w.write(amount=1)
        await does(w, "delete, save", amount=2)
        assert await seen(w) == (3, 2, "True")
        await does(w, "save, delete")
        assert await seen(w) == (0, 3, "False")


@BOTH
async def test_the_state_is_kept_as_it_is_at_the_end_of_the_turn(cls: type[Probe]) -> None:
    async with world(cls, store=Store()) as w:
        await does(w, "save, then change", amount=5)
        assert await seen(w) == (5, 1, "True")
        if cls is Kept:
            await does(w, "passivate")
            assert await seen(w) == (5, 1, "True")


@BOTH
async def test_a_deletion_wakes_who_waits_for_changes(cls: type[Probe]) -> None:
    async with world(cls) as w:
        await w.write(amount=1)
        watching = w.watch(w.call("Watch"))
        assert (await watching.item()).total == 1
        await does(w, "delete")
        item = await watching.item()
        assert (item.total, item.seq, item.text) == (0, 2, "False")


@BOTH
async def test_a_failed_turn_keeps_none_of_its_plain_calls(cls: type[Probe]) -> None:
    async with world(cls) as w:
        await w.write(amount=1)
        for how in ("change and fail", "delete and fail", "abort", "abort and go on", "Abort"):
            await fails(w, how)
        after = await w.read()
        assert after.seq == 1
        assert after.text == "failed once True", "the same instance, which did not leave memory"


@BOTH
async def test_a_read_only_turn_deletes_nothing(cls: type[Probe]) -> None:
    async with world(cls) as w:
        await w.write(amount=1)
        answer = refused(await w.run(w.call("ReadAct", how="delete")))
        assert answer.message == "RuntimeError"
        assert await seen(w) == (1, 1, "True")


# Without a store.


async def test_a_volatile_class_never_touches_the_store() -> None:
    store = Store()
    async with world(Volatile, store=store) as w:
        await w.write(amount=1)
        await fails(w, "change and fail", amount=5)
        assert (await w.read()).total == 6, "memory stays as the turn left it"
        await does(w, "delete")
        await does(w, "passivate")
        assert await seen(w) == (0, 0, "False")
    assert (store.loads, store.commits) == (0, 0)


# With a store.


@pytest.mark.parametrize(
    "how", ["change and fail", "delete and fail", "replace and fail", "abort", "raise"]
)
async def test_a_failed_turn_is_undone(how: str) -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.write(amount=1)
        await fails(w, how, amount=5)
        assert (await seen(w))[:2] == (1, 1)
        assert store.commits == 1


@pytest.mark.parametrize("how", ["wrong type", "too large"])
async def test_a_turn_whose_reply_cannot_leave_is_undone_too(how: str) -> None:
    async with world(Kept) as w:
        await w.write(amount=1)
        await does(w, "change", amount=5)
        await fails(w, how)
        assert await seen(w) == (1, 1, "True")


async def test_an_entity_that_was_never_kept_is_fresh_after_a_failed_turn() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await fails(w, "change and fail", amount=5)
        assert (await seen(w))[:2] == (0, 0)
        assert store.commits == 0


async def test_the_state_is_read_again_only_if_it_differs() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.write(amount=1)
        before = w.host.homes["probe"].entities["a"].state
        await fails(w, "delete and fail")
        assert store.loads == 1, "the one that brought it into memory"
        assert w.host.homes["probe"].entities["a"].state is before
        await fails(w, "raise", amount=1)
        assert store.loads == 2
        assert w.host.homes["probe"].entities["a"].state is not before


async def test_what_was_not_saved_stays_until_a_turn_fails_or_the_entity_leaves() -> None:
    async with world(Kept) as w:
        await w.write(amount=1)
        await does(w, "change", amount=10)
        assert await seen(w) == (11, 1, "True")
        await w.write(amount=100)
        assert await seen(w) == (111, 2, "True"), "it went with the next save"
        await does(w, "change", amount=1000)
        await fails(w, "delete and fail")
        assert await seen(w) == (111, 2, "True")
        await does(w, "change", amount=1000)
        await does(w, "passivate")
        assert await seen(w) == (111, 2, "True")


async def test_a_stream_that_fails_in_its_turn_is_undone() -> None:
    async with world(Kept) as w:
        await w.write(amount=1)
        watching = w.watch(w.call("Watch", how="fail"))
        await watching.item()
        assert refused(await watching.end()).message == "ZeroDivisionError"
        assert await seen(w) == (1, 1, "True")


async def test_an_entity_comes_back_as_it_left() -> None:
    async with world(Kept, limits=HostLimits(idle_timeout_s=2)) as w:
        await w.write(amount=1)
        await w.write(amount=2)
        w.clock.advance(3)
        w.host.tick()
        assert w.host.rt.live == 0
        w.renew()
        assert await seen(w) == (3, 2, "True")
        await does(w, "delete")
        await does(w, "passivate")
        assert await seen(w) == (0, 3, "False")
        await w.write(amount=7)
        assert await seen(w) == (7, 4, "True")


async def test_set_code_with_a_normal_return_is_stored() -> None:
    async with world(Kept) as w:
        assert await fails(w, "set_code", amount=1) == "wrong password"
        await does(w, "passivate")
        assert await seen(w) == (1, 1, "True")
