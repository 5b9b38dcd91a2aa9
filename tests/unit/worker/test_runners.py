"""Turns run in tasks that they share as long as they do not wait; none may notice."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest
from probe.v1 import probe_pb2 as pb

from seedbed import ServicerContext
from seedbed.errors import Reason
from tests.unit.worker.host_world import GATES, Probe, World, not_here, reason, reply, settle, world

MOOD: ContextVar[str] = ContextVar("mood", default="none")
TASKS: list[asyncio.Task[object] | None] = []


class Odd(Probe, durable=False):
    """Its calls do with their task what the request says."""

    async def Write(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        text = MOOD.get()
        match request.how:
            case "set":
                MOOD.set("set by a turn")
            case "task":
                TASKS.append(asyncio.current_task())
                await asyncio.sleep(0)
                TASKS.append(asyncio.current_task())
            case "cancel myself":
                TASKS.append(task := asyncio.current_task())
                assert task is not None
                task.cancel()
            case "cancel myself and wait":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                try:
                    await GATES.wait("never")
                except asyncio.CancelledError:
                    task.uncancel()
                    text = "cancelled"
            case "time out":
                try:
                    async with asyncio.timeout(0):
                        await GATES.wait("never")
                except TimeoutError:
                    text = "timed out"
            case "group":
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(fail())
                        await GATES.wait("never")
                except* ZeroDivisionError:
                    text = "a child failed"
            case "child":
                async with asyncio.TaskGroup() as group:
                    text = await group.create_task(mood())
            case _:
                return await super().Write(request, context)
        return pb.Reply(text=text)


async def fail() -> None:
    raise ZeroDivisionError


async def mood() -> str:
    return MOOD.get()


@pytest.fixture(params=["at once", "after another"])
def after(request: pytest.FixtureRequest) -> bool:
    """A turn runs at once where its call is made, or in the runner after those that are ready."""
    return bool(request.param == "after another")


async def ready(w: World, *keys: str) -> None:
    """The entities are in memory and a runner stands by."""
    for key in (*keys, "other"):
        await w.write(key)
    await settle()


async def text_of(w: World, key: str, how: str, *, after: bool) -> str:
    call = w.call("Write", key, how=how)
    if not after:
        return reply(await w.run(call)).text
    # In line behind a turn: it begins when that ends, not where it is asked for.
    first = w.start(w.call("Write", key, gate="first"))
    await GATES.reach("first")
    second = w.start(call)
    GATES.open("first")
    reply(await first.answer())
    return reply(await second.answer()).text


async def test_a_turn_that_waits_for_nothing_is_answered_before_submit_returns() -> None:
    async with world(Odd) as w:
        await ready(w, "a")
        assert w.start(w.call("Write", "a")).done


async def test_a_turn_sees_nothing_of_another_ones_context(after: bool) -> None:
    async with world(Odd) as w:
        await ready(w, "a", "b")
        assert await text_of(w, "a", "set", after=after) == "none"
        assert await text_of(w, "b", "get", after=False) == ""
        assert await text_of(w, "a", "child", after=after) == "none"


async def test_a_turn_stays_in_its_task(after: bool) -> None:
    async with world(Odd) as w:
        TASKS.clear()
        await ready(w, "a")
        await text_of(w, "a", "task", after=after)
        one, two = TASKS
        assert one is two
        assert one is not asyncio.current_task()


async def test_who_asked_goes_on_in_its_own_task() -> None:
    async with world(Odd) as w:
        await ready(w, "a")
        mine = asyncio.current_task()
        w.start(w.call("Write", "a"))
        assert asyncio.current_task() is mine
        held = w.start(w.call("Write", "a", gate="g"))
        assert asyncio.current_task() is mine
        GATES.open("g")
        await held.answer()


async def test_a_turn_may_begin_where_no_task_runs() -> None:
    async with world(Odd) as w:
        await ready(w, "a")
        started: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(
            lambda: started.set_result(w.start(w.call("Write", "a")).done)
        )
        assert await started


async def test_a_turn_that_cancels_itself_harms_no_other(after: bool) -> None:
    async with world(Odd) as w:
        TASKS.clear()
        await ready(w, "a", "b")
        await text_of(w, "a", "cancel myself", after=after)
        assert await text_of(w, "b", "task", after=False) == "none"
        assert TASKS[0] is not TASKS[1]
        await settle()
        assert await text_of(w, "b", "task", after=after) == "none"


async def test_nor_one_that_is_ready_with_it() -> None:
    async with world(Odd) as w:
        TASKS.clear()
        await ready(w, "a", "b")
        held = [w.start(w.call("Write", key, gate="g")) for key in "ab"]
        behind = [
            w.start(w.call("Write", "a", how="cancel myself")),
            w.start(w.call("Write", "b", how="task")),
        ]
        await settle()
        GATES.open("g")
        for call in (*held, *behind):
            reply(await call.answer())


HOWS = {
    "cancel myself and wait": "cancelled",
    "time out": "timed out",
    "group": "a child failed",
}


@pytest.mark.parametrize("how", HOWS)
async def test_cancellations_reach_the_turn(how: str, after: bool) -> None:
    async with world(Odd) as w:
        await ready(w, "a")
        assert await text_of(w, "a", how, after=after) == HOWS[how]
        await settle()
        assert w.host.rt.calls == 0


async def test_a_turn_that_was_begun_at_once_ends_at_its_deadline() -> None:
    async with world(Odd) as w:
        await ready(w, "a")
        call = w.start(w.call("Write", "a", gate="g", deadline_s=1))
        assert not call.done
        w.clock.advance(2)
        w.host.tick()
        assert reason(await call.answer()) is Reason.DEADLINE
        await w.write("a")


async def test_what_is_cancelled_between_its_first_two_steps_ends() -> None:
    async with world(Odd) as w:
        await ready(w, "a")
        call = w.start(w.call("Write", "a", gate="g", deadline_s=1))
        w.clock.advance(2)
        w.host.tick()  # before its task has got to go on
        await settle()
        assert reason(await call.answer()) is Reason.DEADLINE
        assert w.host.rt.calls == 0
        assert (await w.read("a")).total == 1  # as `ready` left it


async def test_while_many_turns_run_the_loop_does_other_things() -> None:
    async with world(Odd) as w:
        await ready(w, "a")
        first = w.start(w.call("Write", "a", gate="g"))
        calls = [w.start(w.call("Write", "a")) for _ in range(300)]
        GATES.open("g")
        await first.answer()
        await asyncio.sleep(0)
        assert not calls[-1].done
        await calls[-1].answer()


async def test_a_fence_of_the_region_alone_stops_replies_and_turns() -> None:
    async with world(Odd) as w:
        await ready(w, "a")
        running = w.start(w.call("Write", "a", gate="g"))
        w.region.fence()
        assert not_here(await w.run(w.call("Write", "other")))
        GATES.open("g")
        assert reason(await running.answer()) is Reason.FENCED


async def test_without_a_seed_calls_are_held_and_not_tried_again_and_again() -> None:
    async with world(Odd) as w:
        await ready(w, "a")
        w.lease.detached()
        known, new = w.start(w.call("Write", "a")), w.start(w.call("Write", "n"))
        assert len(w.host.holds) == 2
        await settle()
        w.renew()
        w.host.region_changed()
        reply(await known.answer())
        reply(await new.answer())
