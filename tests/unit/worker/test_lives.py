"""How entities come into memory and leave it."""

from __future__ import annotations

import asyncio

import pytest
from probe.v1 import probe_pb2 as pb
from probe.v1 import probe_pb2_grpc as rpc

from seedbed import Entity, ServicerContext
from seedbed.errors import Reason
from seedbed_worker.runtime import HostLimits
from tests.unit.worker.host_world import (
    GATES,
    LOG,
    Probe,
    Total,
    reason,
    refused,
    reply,
    settle,
    world,
)

MISBEHAVE: dict[str, str] = {}


class Hooked(Probe, durable=False):
    """A probe with hooks."""

    def __init__(self) -> None:
        for name in ("key", "state", "seq"):
            assert not hasattr(self, name)
        if MISBEHAVE.get("init") == "turn":
            _ = self.turn

    async def activated(self) -> None:
        LOG.append(f"activated {self.key} {self.turn.read_only}")
        if "gate" in MISBEHAVE:
            await GATES.wait(MISBEHAVE["gate"])
        if "activated" in MISBEHAVE:
            raise OSError(MISBEHAVE.pop("activated"))
        self.state.value = 100
        self.save()

    async def deactivating(self) -> None:
        LOG.append(f"deactivating {self.key}")
        if "leaving gate" in MISBEHAVE:
            await GATES.wait(MISBEHAVE["leaving gate"])
        self.save()
        if "deactivating" in MISBEHAVE:
            raise OSError(MISBEHAVE.pop("deactivating"))


def setup_function() -> None:
    MISBEHAVE.clear()


async def test_the_hook_runs_before_the_first_call_and_may_change_things() -> None:
    async with world(Hooked) as w:
        first = await w.read()
        assert (first.total, first.seq) == (100, 1)
        assert LOG == ["activated a False"]


async def test_a_hook_that_fails_fails_the_call_and_keeps_nothing() -> None:
    async with world(Hooked) as w:
        MISBEHAVE.update(activated="no", gate="g")
        first, second = w.start(w.call("Read")), w.start(w.call("Read"))
        GATES.open("g")
        assert refused(await first.answer()).message == "OSError"
        assert reply(await second.answer()).total == 100
        assert LOG == ["activated a False"] * 2
        assert w.host.rt.live == 1


async def test_readers_wait_for_the_hook_and_then_run_together() -> None:
    async with world(Hooked) as w:
        MISBEHAVE["gate"] = "g"
        calls = [w.start(w.call("Read", gate="r")) for _ in range(3)]
        await GATES.reach("g")
        GATES.open("g")
        for _ in calls:
            await GATES.reach("r")
        GATES.open("r")
        for call in calls:
            await call.answer()


async def test_there_is_no_turn_in_init(caplog: pytest.LogCaptureFixture) -> None:
    async with world(Hooked) as w:
        MISBEHAVE["init"] = "turn"
        answer = refused(await w.run(w.call("Read")))
        assert answer.message == "RuntimeError"
        assert answer.epoch == 1, "else its router takes the worker for lost"
        assert w.host.rt.live == 0
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage() == "entity not made"
    assert getattr(record, "entity", "") == f"{__name__}:Hooked"
    assert "the entity is still being made" in caplog.text


async def test_an_idle_entity_leaves_and_comes_back_fresh() -> None:
    async with world(Hooked, limits=HostLimits(idle_timeout_s=2)) as w:
        await w.write()
        w.clock.advance(1.9)
        w.host.tick()
        await settle()
        assert w.host.rt.live == 1
        w.clock.advance(0.2)
        w.host.tick()
        await settle()
        assert (w.host.rt.live, w.host.rt.calls) == (0, 0)
        assert LOG[-1] == "deactivating a"
        w.renew()
        assert (await w.read()).total == 100


async def test_use_keeps_an_entity_from_idling_out() -> None:
    async with world(limits=HostLimits(idle_timeout_s=2)) as w:
        await w.write()
        for _ in range(3):
            w.clock.advance(1.5)
            w.renew()
            await w.read()
            w.host.tick()
        assert (await w.read()).total == 1


async def test_a_stream_keeps_an_entity_from_idling_out() -> None:
    async with world(limits=HostLimits(idle_timeout_s=2)) as w:
        watching = w.watch(w.call("Watch", deadline_s=None))
        await watching.item()
        for _ in range(3):
            w.clock.advance(3)
            w.renew()
            w.host.tick()
            await settle()
        await w.write()
        assert (await watching.item()).total == 1
        watching.job.abandon()
        await settle()
        w.clock.advance(3)
        w.host.tick()
        await settle()
        assert w.host.rt.live == 0


async def test_the_entity_limit_makes_the_least_recently_used_leave() -> None:
    async with world(limits=HostLimits(max_entities=2)) as w:
        for key in ("a", "b"):
            await w.write(key)
            w.clock.advance(0.001)
        await w.read("a")
        w.clock.advance(0.001)
        await w.write("c")
        assert set(w.host.homes["probe"].entities) == {"a", "c"}
        assert (await w.read("b")).total == 0


async def test_the_entity_limit_ends_streams_with_moving() -> None:
    async with world(limits=HostLimits(max_entities=1)) as w:
        watching = w.watch(w.call("Watch", "a"))
        await watching.item()
        await w.write("b")
        assert reason(await watching.end()) is Reason.MOVING
        await settle()
        assert list(w.host.homes["probe"].entities) == ["b"]


async def test_if_all_are_busy_the_limit_is_named() -> None:
    async with world(limits=HostLimits(max_entities=1)) as w:
        busy = w.start(w.call("Write", "a", gate="g"))
        await GATES.reach("g")
        answer = refused(await w.run(w.call("Write", "b")))
        assert answer.reason is Reason.OVERLOADED
        assert "SEEDBED_MAX_ENTITIES" in answer.message
        GATES.open("g")
        await busy.answer()
        await w.write("b")


async def test_one_more_than_the_limit_only_while_it_leaves() -> None:
    async with world(Hooked, limits=HostLimits(max_entities=1)) as w:
        await w.write("a")
        MISBEHAVE["leaving gate"] = "leave"
        await w.write("b")
        await GATES.reach("leave")
        assert w.host.rt.live == 2
        GATES.open("leave")
        await settle()
        assert w.host.rt.live == 1


async def test_calls_that_come_while_an_entity_leaves_wake_its_next_life() -> None:
    async with world(Hooked) as w:
        MISBEHAVE["leaving gate"] = "leave"
        await w.write()
        gone = w.start(w.call("Act", how="passivate"))
        reply(await gone.answer())
        await GATES.reach("leave")
        early = [w.start(w.call("Write", amount=n)) for n in (1, 2)]
        await settle()
        assert not any(call.done for call in early)
        GATES.open("leave")
        assert [reply(await call.answer()).total for call in early] == [101, 103]
        assert LOG.count("activated a False") == 2


async def test_a_reader_may_ask_to_leave_and_the_others_end_first() -> None:
    async with world(Hooked) as w:
        other = w.start(w.call("Read", gate="r"))
        await GATES.reach("r")
        await w.run(w.call("ReadAct", how="passivate"))
        queued = w.start(w.call("Write", amount=1))
        await settle()
        assert "deactivating a" not in LOG
        GATES.open("r")
        await other.answer()
        assert reply(await queued.answer()).total == 101
        assert LOG.count("deactivating a") == 1


async def test_without_hooks_leaving_is_at_once() -> None:
    async with world() as w:
        await w.write(amount=5)
        waiting = w.start(w.call("Act", how="passivate"))
        following = w.start(w.call("Write", amount=1))
        await waiting.answer()
        assert reply(await following.answer()).total == 1


async def test_leaving_ends_the_streams_of_the_life() -> None:
    async with world() as w:
        watching = w.watch(w.call("Watch"))
        await watching.item()
        await w.run(w.call("Act", how="passivate"))
        assert reason(await watching.end()) is Reason.MOVING
        await settle()
        assert not w.host.homes["probe"].cells


async def test_a_leaving_hook_that_fails_or_hangs_does_not_keep_the_entity() -> None:
    async with world(Hooked) as w:
        MISBEHAVE["deactivating"] = "no"
        await w.run(w.call("Act", how="passivate"))
        await settle()
        assert w.host.rt.live == 0
        MISBEHAVE["leaving gate"] = "never"
        await w.run(w.call("Act", how="passivate"))
        await GATES.reach("never")
        waiting = w.start(w.call("Write", amount=1))
        for _ in range(3):
            w.clock.advance(4)
            w.renew()
            w.host.tick()
            await settle()
        assert reply(await waiting.answer()).total == 101


async def test_a_first_call_whose_deadline_passes_in_the_hook_keeps_nothing() -> None:
    async with world(Hooked) as w:
        MISBEHAVE["gate"] = "g"
        call = w.start(w.call("Write", deadline_s=1))
        await GATES.reach("g")
        w.clock.advance(1.1)
        w.host.tick()
        assert reason(await call.answer()) is Reason.DEADLINE
        await settle()
        assert (w.host.rt.live, w.host.rt.calls) == (0, 0)
        del MISBEHAVE["gate"]
        assert (await w.read()).total == 100


class Plain(Entity[Total], rpc.ProbeServicer):
    """Without any state of its own making trouble: what a class without keywords does."""

    async def Read(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        async with asyncio.TaskGroup() as tasks:
            inner = tasks.create_task(self.look())
        return pb.Reply(text=inner.result())

    async def look(self) -> str:
        return self.turn.entity_type


async def test_tasks_inside_a_turn_have_it() -> None:
    async with world(Plain) as w:
        assert reply(await w.run(w.call("Read"))).text == "probe"
