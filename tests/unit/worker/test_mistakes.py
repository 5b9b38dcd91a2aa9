"""What users get wrong while it runs: each with an error that says where and what to do."""

from __future__ import annotations

import asyncio
import inspect

import grpc
import pytest
from probe.v1 import probe_pb2 as pb

from seedbed import Abort, ServicerContext
from seedbed.entity import AnyEntity
from seedbed.errors import Reason
from tests.unit.worker.host_world import GATES, LOG, Probe, World, refused, reply, settle, world

gather = asyncio.gather  # noqa: TID251 - users may


class Clumsy(Probe, durable=False):
    async def Act(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        match request.how:
            case "no await":
                return self.helper("")  # type: ignore[return-value] # pyright: ignore[reportReturnType] # what the test is about
            case "a task":
                task = asyncio.get_running_loop().create_task(self.helper("never"))
                TASKS.append(task)
                return task  # type: ignore[return-value] # pyright: ignore[reportReturnType] # likewise
            case "in gather":
                await gather(self.helper(""), self.fail("abort"))
            case "in a group":
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self.helper("never"))
                    tasks.create_task(self.fail("abort"))
            case "in a nested group":
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self.group())
            case "two errors in a group":
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self.fail("abort"))
                    tasks.create_task(self.fail("zero"))
            case "in a thread":
                await asyncio.to_thread(self.block)
            case "turns everywhere":
                turn = self.turn
                found = await gather(self.look(), asyncio.to_thread(lambda: self.turn))
                assert all(one is turn for one in found)
                await gather(self.keep(), asyncio.to_thread(self.state_in_thread))
            case other:
                raise AssertionError(other)
        return self.answer()

    async def helper(self, gate: str) -> pb.Reply:
        if gate:
            await GATES.wait(gate)
        return self.answer()

    async def group(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.fail("abort"))

    async def fail(self, how: str) -> None:
        if how == "zero":
            raise ZeroDivisionError
        raise Abort(grpc.StatusCode.ABORTED, "from a child")

    def block(self) -> None:
        self.state.value += 1
        self.save()
        raise Abort(grpc.StatusCode.ABORTED, "from a thread")

    async def look(self) -> object:
        await asyncio.sleep(0)
        return self.turn

    async def keep(self) -> None:
        self.save()

    def state_in_thread(self) -> None:
        self.state.value += 7


class Careful(Clumsy, durable=True):
    """The same, in the store."""


TASKS: list[asyncio.Task[pb.Reply]] = []
BOTH = pytest.mark.parametrize("cls", [Clumsy, Careful])


# A forgotten `await`.


@pytest.mark.parametrize(
    ("how", "what"), [("no await", "coroutine Clumsy.helper()"), ("a task", "Task")]
)
async def test_a_forgotten_await_is_named_with_its_place(
    how: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(Clumsy) as w:
        answer = refused(await w.run(w.call("Act", how=how)))
        await settle()
    assert answer.message == (
        f"/probe.v1.Probe/Act returned {what} (write `await` before it), expected probe.v1.Reply"
    )
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    place = f"{__file__}:{inspect.getsourcelines(Clumsy.Act)[1]}"
    assert getattr(record, "place", "") == place
    assert all(task.cancelled() for task in TASKS)


# Abort and the turn, wherever user code runs.


@BOTH
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("in gather", "from a child"),
        ("in a group", "from a child"),
        ("in a nested group", "from a child"),
        ("in a thread", "from a thread"),
    ],
)
async def test_abort_works_from_anywhere_in_a_turn(
    cls: type[Probe], how: str, message: str
) -> None:
    async with world(cls) as w:
        answer = refused(await w.run(w.call("Act", how=how)))
        assert (answer.code, answer.message) == (10, message)
        assert (await w.read()).seq == 0


async def test_an_abort_beside_an_error_does_not_hide_it() -> None:
    async with world(Clumsy) as w:
        answer = refused(await w.run(w.call("Act", how="two errors in a group")))
        assert (answer.code, answer.message) == (2, "ExceptionGroup")


@BOTH
async def test_the_turn_is_there_in_children_and_threads(cls: type[Probe]) -> None:
    async with world(cls) as w:
        await w.run(w.call("Act", how="turns everywhere"))
        after = await w.read()
        assert (after.total, after.seq) == (7, 1)


# Who waits in line is told for whom.


class Slow(Clumsy, durable=False):
    async def activated(self) -> None:
        if self.key == "slow to come":
            await GATES.wait("activated")

    async def deactivating(self) -> None:
        await GATES.wait("deactivating")


@pytest.mark.parametrize(
    ("key", "how", "busy"),
    [
        ("a", "Write", "Write of this entity has run for 2.5 s"),
        ("slow to come", "Write", "activated() of this entity has run for 2.5 s"),
        ("a", "passivate", "deactivating() of this entity has run for 2.5 s"),
    ],
)
async def test_a_deadline_in_line_says_what_runs_and_for_how_long(
    key: str, how: str, busy: str
) -> None:
    async with world(Slow) as w:
        if how == "passivate":
            w.host.homes["probe"].retire(await made(w, key))
            gate = "deactivating"
        else:
            w.start(w.call("Write", key, gate="g"))
            gate = "g" if key == "a" else "activated"
        await GATES.reach(gate)
        waiting = w.start(w.call("Write", key, deadline_s=2))
        w.clock.advance(2.5)
        w.host.tick()
        answer = refused(await waiting.answer())
        assert (answer.reason, answer.started) == (Reason.DEADLINE, False)
        assert answer.message == f"the deadline passed before it began; nothing ran: {busy}"


async def made(w: World, key: str) -> AnyEntity:
    await w.write(key)
    return w.host.homes["probe"].entities[key]


async def test_a_second_holder_is_named_after_the_first() -> None:
    async with world(Clumsy) as w:
        first = w.start(w.call("Write", gate="first"))
        second = w.start(w.call("Act", how="a task", gate="x"))
        third = w.start(w.call("Write", gate="third"))
        await GATES.reach("first")
        w.clock.advance(3)
        GATES.open("first")
        await GATES.reach("third")
        for one in (first, second):
            await one.answer()
        waiting = w.start(w.call("Read", deadline_s=1))
        w.clock.advance(1.5)
        w.host.tick()
        answer = refused(await waiting.answer())
        assert answer.message.endswith("Write of this entity has run for 1.5 s")
        GATES.open("third")
        await third.answer()


async def test_a_turn_that_ends_at_its_own_deadline_blames_nobody() -> None:
    async with world(Clumsy) as w:
        call = w.start(w.call("Write", gate="never", deadline_s=1))
        await GATES.reach("never")
        w.clock.advance(1.5)
        w.host.tick()
        assert refused(await call.answer()).message == "the deadline passed while it ran"


# Hooks.


class Broken(Clumsy, durable=True):
    async def activated(self) -> None:
        self.state.value = 50
        self.save()
        if LOG:
            LOG.clear()
            raise OSError("secret")

    async def deactivating(self) -> None:
        raise OSError("secret")


async def test_an_error_in_activated_names_class_and_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with world(Broken) as w:
        LOG.append("fail once")
        first, second = w.start(w.call("Read")), w.start(w.call("Read"))
        answer = refused(await first.answer())
        assert (answer.message, answer.code) == ("OSError", 2)
        after = reply(await second.answer())
        assert (after.total, after.seq) == (50, 1), "nothing of the first try was kept"
        w.host.homes["probe"].retire(w.host.homes["probe"].entities["a"])
        await settle()
        assert w.host.rt.live == 0
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert {record.getMessage() for record in errors} == {"hook failed"}
    hooks = [getattr(record, "hook", "") for record in errors]
    assert hooks == ["activated()", "deactivating()"]
    assert {getattr(record, "key", "") for record in errors} == {"a"}
    assert {getattr(record, "entity_type", "") for record in errors} == {"probe"}
    assert {getattr(record, "entity", "") for record in errors} == {f"{__name__}:Broken"}


class Refusing(Clumsy, durable=False):
    async def activated(self) -> None:
        raise Abort(grpc.StatusCode.FAILED_PRECONDITION, "not yet")


async def test_activated_may_abort() -> None:
    async with world(Refusing) as w:
        answer = refused(await w.run(w.call("Read")))
        assert (answer.code, answer.message) == (9, "not yet")
        assert w.host.rt.live == 0
