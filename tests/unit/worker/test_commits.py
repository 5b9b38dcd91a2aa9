"""The end of a turn: what it gave takes effect together, is stored, or is undone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import grpc
import pytest
from probe.v1 import probe_pb2 as pb

from seedbed import Abort, ServicerContext
from seedbed.errors import CallError, Reason
from seedbed_worker.entity_store import MemoryStates, Ownership, Stored
from seedbed_worker.runtime import HostLimits
from tests.unit.worker.host_world import (
    GATES,
    Probe,
    World,
    act,
    not_here,
    reason,
    refused,
    reply,
    settle,
    world,
)


class Volatile(Probe, durable=False):
    """Its replies tell `exists` too; a note of its own shows whether it is the same instance."""

    def __init__(self) -> None:
        self.note = ""

    async def Act(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        before = self.state
        match request.how:
            case "delete":
                self.delete()
            case "delete, save":
                self.delete()
                self.state.value += request.amount
                self.save()
            case "save, delete":
                self.save()
                self.delete()
            case "save, then change":
                self.save()
                self.state.value += request.amount
            case "change":
                self.state.value += request.amount
            case "change and fail":
                self.note = "failed once"
                self.state.value += request.amount
                self.save()
                self.passivate()
                raise ZeroDivisionError
            case "delete and fail":
                self.delete()
                raise Abort(grpc.StatusCode.ABORTED, "no")
            case "replace and fail":
                self.state = type(before)(request.amount)
                raise Abort(grpc.StatusCode.ABORTED, "no")
            case "no number":
                self.state.value = "text"  # type: ignore[assignment] # what the test is about
                self.save()
                return pb.Reply()
            case "no state":
                self.state.value = object()  # type: ignore[assignment] # likewise
                self.save()
                return pb.Reply()
            case "change, then wait":
                self.state.value += request.amount
                await GATES.wait(request.gate)
                self.save()
            case "ignore the deadline" | "ignore it, unsaved":
                self.state.value += request.amount
                if request.how == "ignore the deadline":
                    self.save()
                with suppress(asyncio.CancelledError):
                    await GATES.wait("never")
            case _:
                return await act(self, request, context)
        return self.answer()

    async def ReadAct(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        if request.how == "delete":
            self.delete()
        return self.answer()

    async def Watch(self, request: pb.Request, context: ServicerContext) -> AsyncIterator[pb.Reply]:
        async for _ in self.changes(request.after):
            yield self.answer()
            if request.how == "fail":
                self.state.value += 100
                raise ZeroDivisionError

    def answer(self) -> pb.Reply:
        text = f"{self.note} {self.exists}".strip()
        return pb.Reply(total=self.state.value, seq=self.seq, text=text)


class Kept(Volatile, durable=True):
    """The same, in the store."""


class Store(MemoryStates):
    """Counts, waits and fails as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.loads = self.commits = 0
        self.gate = ""
        self.unreachable = 0
        """So many calls fail."""
        self.lost_answer = False
        """The next commit happens, and fails all the same."""

    async def load(self, type_: str, key: str, shard: Ownership) -> Stored | None:
        self.loads += 1
        self._reach()
        return await super().load(type_, key, shard)

    async def commit(self, type_: str, key: str, stored: Stored, shard: Ownership) -> None:
        self.commits += 1
        if self.gate:
            await GATES.wait(self.gate)
        self._reach()
        await super().commit(type_, key, stored, shard)
        if self.lost_answer:
            self.lost_answer = False
            raise CallError(Reason.STORE_UNAVAILABLE, "the answer was lost")

    def _reach(self) -> None:
        if self.unreachable:
            self.unreachable -= 1
            raise CallError(Reason.STORE_UNAVAILABLE, "no answer")


BOTH = pytest.mark.parametrize("cls", [Volatile, Kept])


async def does(w: World, how: str, amount: int = 0) -> pb.Reply:
    return reply(await w.run(w.call("Act", how=how, amount=amount)))


async def fails(w: World, how: str, amount: int = 0) -> str:
    return refused(await w.run(w.call("Act", how=how, amount=amount))).message


async def seen(w: World) -> tuple[int, int, str]:
    found = await w.read()
    return found.total, found.seq, found.text


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
            draining = tasks.create_task(w.host.drain(w.clock.now + 3 * 10**9))
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
    assert "tests.unit.worker.test_commits:Kept 'a'" in text
    assert fault in text


# Hooks.


class Hooked(Kept, durable=True):
    async def activated(self) -> None:
        if not self.exists:
            self.state.value = 100
            self.save()

    async def deactivating(self) -> None:
        self.state.value += 1
        if self.key == "fails":
            raise ZeroDivisionError
        self.save()


async def test_what_hooks_save_is_stored() -> None:
    async with world(Hooked) as w:
        assert await seen(w) == (100, 1, "True")
        await does(w, "passivate")
        assert await seen(w) == (101, 2, "True")


async def test_a_leaving_hook_that_fails_stores_nothing() -> None:
    async with world(Hooked) as w:
        await w.read("fails")
        await w.run(w.call("Act", "fails", how="passivate"))
        assert (await w.read("fails")).total == 100


# Whose states they are.


async def test_a_worker_alone_keeps_states_as_long_as_it_owns_the_shard() -> None:
    async with world(Kept) as w:
        await w.write(amount=1)
        w.place("other")
        w.host.region_changed()
        assert not_here(await w.run(w.call("Read")))
        w.place("me")
        w.host.region_changed()
        assert await seen(w) == (0, 0, "False")


async def test_a_store_of_the_cluster_outlives_moves_and_crashes() -> None:
    async with world(Kept, store=Store()) as w:
        await w.write(amount=1)
        w.place("other")
        w.host.region_changed()
        w.place("me")
        w.host.region_changed()
        assert await seen(w) == (1, 1, "True")
        w.region.fence()
        w.lease.fence()
        w.host.drop_all(Reason.FENCED)
        w.rejoin("me again")
        assert await seen(w) == (1, 1, "True")


class Owner:
    def __init__(self, epoch: int) -> None:
        self.number, self.epoch = 3, epoch


async def test_it_refuses_an_owner_that_has_a_successor() -> None:
    store = MemoryStates()
    await store.commit("t", "a", Stored(1, b"old"), Owner(1))
    assert await store.load("t", "a", Owner(2)) == Stored(1, b"old")
    with pytest.raises(CallError, match="epoch 2"):
        await store.commit("t", "a", Stored(2, b"late"), Owner(1))
    assert await store.load("t", "a", Owner(2)) == Stored(1, b"old")
