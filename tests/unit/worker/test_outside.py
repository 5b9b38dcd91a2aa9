"""Leaving a turn by `outside()`, and coming back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probe.v1 import probe_pb2 as pb

from seedbed import Abort, ServicerContext
from seedbed.calls import EntityCall, Failed
from seedbed.errors import CallError, Reason
from seedbed.turn import CURRENT
from seedbed_worker.runtime import HostLimits
from tests.unit.worker.host_world import (
    GATES,
    LOG,
    SECOND,
    Pending,
    Probe,
    World,
    not_here,
    reason,
    refused,
    reply,
    settle,
    world,
)
from tests.unit.worker.test_commits import Store

BOTH = pytest.mark.parametrize("durable", [False, True], ids=["volatile", "kept"])


class Volatile(Probe, durable=False):
    """`Act` leaves its turn as the request says; `gate` holds the block."""

    async def Act(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        match request.how:
            case "out and back":
                return await self.out_and_back(request)
            case "change, then wait":
                self.state.value += request.amount
                await GATES.wait("in turn")
                self.save()
            case "wait, then out and back":
                await GATES.wait("in turn")
                return await self.out_and_back(request)
            case "twice":
                await self.out_and_back(request)
                return await self.out_and_back(request)
            case "turns":
                first = self.turn
                async with self.outside():
                    await GATES.wait(request.gate)
                second = self.turn
                assert second is not first
                assert (second.request_id, second.epoch) == (first.request_id, first.epoch)
                assert second.deadline == first.deadline
                return pb.Reply(text=str((second.now - first.now).total_seconds()))
            case "passivate":
                self.passivate()
                return await self.out_and_back(request)
            case "fail in the block":
                self.state.value += request.amount
                self.save()
                self.passivate()
                async with self.outside():
                    await GATES.wait(request.gate)
                    raise Abort(grpc.StatusCode.ABORTED, "in the block")
            case "fail in the block and go on":
                self.state.value += request.amount
                self.save()
                try:
                    async with self.outside():
                        if request.gate:
                            await GATES.wait(request.gate)
                        raise Abort(grpc.StatusCode.ABORTED, "in the block")
                except Abort:
                    pass
                try:
                    self.save()
                except RuntimeError as error:
                    LOG.append(str(error))
                return self.answer()
            case "fail after it":
                await self.out_and_back(request)
                self.state.value += 1000
                self.save()
                raise ZeroDivisionError
            case "commit fails":
                self.state.value += request.amount
                self.save()
                try:
                    async with self.outside():
                        LOG.append("the block ran")
                except CallError as error:
                    LOG.append(error.reason.value)
                return self.answer()
            case "ignore the deadline":
                async with self.outside():
                    try:
                        await GATES.wait(request.gate)
                    except asyncio.CancelledError:
                        LOG.append("ignored")
                LOG.append("a turn that must not be")
            case "return in the block":
                async with self.outside():
                    return pb.Reply(text="from the block")
            case other:
                assert await misuse(self, other)
        return self.answer()

    async def ReadAct(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        async with self.outside():
            await GATES.wait(request.gate)
        if request.how == "save":
            self.save()
        return pb.Reply(total=self.state.value, text=str(self.turn.read_only))

    async def out_and_back(self, request: pb.Request) -> pb.Reply:
        self.state.value += request.amount
        self.save()
        async with self.outside():
            LOG.append(f"out {request.amount}")
            await GATES.wait(request.gate)
        LOG.append(f"back {request.amount}")
        self.state.value += request.amount
        self.save()
        return self.answer()

    async def Watch(self, request: pb.Request, context: ServicerContext) -> AsyncIterator[pb.Reply]:
        async for _ in self.changes(request.after):
            yield self.answer()
            if request.how == "outside":
                async with self.outside():
                    LOG.append("the block ran")


class Kept(Volatile, durable=True):
    """The same, in the store."""


async def misuse(self: Probe, how: str) -> bool:
    """Everything that raises: notes what it says."""
    try:
        match how:
            case "nested":
                async with self.outside(), self.outside():
                    pass
            case "child":
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(leave(self))
            case "later":
                block = self.outside()
                async with self.outside():
                    await block.__aenter__()
            case "in the block":
                async with self.outside():
                    current = CURRENT.get()
                    assert current is not None
                    assert current.is_outside
                    assert not current.open
                    for use in (
                        self.save, self.delete, self.passivate, self.changes, lambda: self.turn
                    ):  # fmt: skip
                        try:
                            use()
                        except RuntimeError as error:
                            LOG.append(str(error))
                return True
            case _:
                pass
    except* RuntimeError as group:
        LOG.extend(str(error) for error in group.exceptions)
        raise Abort(grpc.StatusCode.OUT_OF_RANGE, "misused") from None
    raise AssertionError(how)


async def leave(self: Probe) -> None:
    async with self.outside():
        pass


def of(*, durable: bool) -> type[Probe]:
    return Kept if durable else Volatile


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


# What goes wrong.


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


# The entity stays.


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
            draining = tasks.create_task(w.host.drain(w.clock.now + 3 * SECOND))
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
            tasks.create_task(w.host.drain(w.clock.now + 3 * SECOND))
            await settle()
            w.clock.advance(3.1)
            w.host.tick()
        assert reason(await call.answer()) is Reason.FENCED


async def test_the_loss_of_the_memory_ends_who_is_outside() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        call = w.start(w.call("Act", how="out and back", amount=1, gate="g"))
        await GATES.reach("g")
        store.unreachable = 2
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


# Where it does not belong.


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("nested", "inside `async with self.outside():` there is no turn"),
        ("later", "its turn is over"),
        ("child", "use it in the method's own task"),
    ],
)
async def test_misuse_says_what_to_do(how: str, says: str) -> None:
    async with world(Volatile) as w:
        answer = await w.run(w.call("Act", how=how))
        assert isinstance(answer, Failed)
        assert answer.message == "misused"
        assert says in LOG[0]
        assert not w.host.homes["probe"].cells


async def test_in_the_block_nothing_of_the_turn_is_there() -> None:
    async with world(Volatile) as w:
        await w.run(w.call("Act", how="in the block"))
        for name, text in zip(
            ("save()", "delete()", "passivate()", "changes()", "self.turn"), LOG, strict=True
        ):
            assert text.startswith(f"{name}: inside `async with self.outside():`")


async def test_a_stream_cannot_leave() -> None:
    async with world(Volatile) as w:
        watching = w.watch(w.call("Watch", how="outside"))
        await watching.item()
        assert refused(await watching.end()).message == "RuntimeError"
        assert LOG == []


class Hooked(Volatile, durable=False):
    async def activated(self) -> None:
        await leave(self)


async def test_a_hook_cannot_leave(caplog: pytest.LogCaptureFixture) -> None:
    async with world(Hooked) as w:
        assert refused(await w.run(w.call("Read"))).message == "RuntimeError"
    assert "outside(): not in a hook" in caplog.text


# Any order.


@settings(max_examples=60, deadline=None)
@given(
    durable=st.booleans(),
    calls=st.lists(st.sampled_from(["write", "out", "fail", "read", "leave"]), max_size=12),
    order=st.randoms(use_true_random=False),
)
def test_in_any_order_every_change_is_kept_once_and_nothing_is_left(
    durable: bool, calls: list[str], order: Random
) -> None:
    asyncio.run(_any_order(of(durable=durable), calls, order))


async def _any_order(cls: type[Probe], calls: list[str], order: Random) -> None:
    async with world(cls, store=Store()) as w:
        pending: list[Pending] = []
        total = 0
        for number, what in enumerate(calls):
            gate = f"g{number}"
            call, kept = _one(w, what, gate)
            pending.append(w.start(call))
            total += kept
            if number % 3 == 0:
                await settle()
        gates = [f"g{number}" for number in range(len(calls))]
        order.shuffle(gates)
        for gate in gates:
            GATES.open(gate)
            await settle()
        for one in pending:
            await one.answer()
        await settle()
        if cls is Kept:  # a volatile one forgets when it leaves
            after = await w.read()
            assert after.total == total
        assert (w.host.rt.calls, len(w.host.homes["probe"].cells)) == (0, 0)


def _one(w: World, what: str, gate: str) -> tuple[EntityCall, int]:
    """A call, and what it adds in all."""
    match what:
        case "write":
            return w.call("Write", amount=1, gate=gate), 1
        case "out":
            return w.call("Act", how="out and back", amount=1, gate=gate), 2
        case "fail":
            return w.call("Act", how="fail in the block", amount=1, gate=gate), 1
        case "leave":
            return w.call("Act", how="passivate", amount=1, gate=gate), 2
        case _:
            return w.call("Read", gate=gate), 0
