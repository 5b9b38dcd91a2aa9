"""Entities call each other over two workers: what goes along, who waits, and how many at once."""

from __future__ import annotations

import asyncio
from time import perf_counter

import grpc
import grpc.aio
import pytest
from probe.v1 import probe_pb2 as pb
from probe.v1 import probe_pb2_grpc as rpc

from seedbed import Entity, ServicerContext, reason
from seedbed.calls import Failed
from seedbed.clock import SystemClock
from seedbed.errors import Reason
from seedbed_worker.jobs import Answer
from tests.support.waiting import until
from tests.unit.worker.commits_world import Store
from tests.unit.worker.host_world import GATES, SECOND, reply, settle
from tests.unit.worker.onward_world import (
    HERE,
    SEEN,
    THERE,
    WAIT_S,
    Scripted,
    ids,
    key_on,
    net,
    script,
)


async def test_a_call_leaves_once_all_that_its_turn_could_have_seen_is_stored() -> None:
    store = Store()
    async with net(store=store) as it, asyncio.TaskGroup() as tasks:

        @script
        async def tell(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            told = self.probes.Write(pb.Request(id=THERE, amount=self.state.value))
            return pb.Reply(total=(await told).total)

        await it.nodes[1].call(it.call(THERE, "", method="Write", amount=1, request_id="id-0"))
        await it.nodes[0].call(it.call(HERE, "", method="Write", amount=1, request_id="id-1"))
        store.gate = "stored"
        write = it.call(HERE, "", method="Write", amount=1, request_id="id-2")
        writing = tasks.create_task(it.nodes[0].call(write))
        await GATES.reach("stored")
        store.gate = ""
        telling = tasks.create_task(it.act(HERE, "tell", request_id="id-3"))
        await until("it runs", lambda: ids(HERE)[-1] == "id-3", within=WAIT_S)
        await settle()
        assert len(ids(THERE)) == 1
        assert not writing.done()
        GATES.open("stored")
        assert reply(await telling).total == 3
        assert len(ids(THERE)) == 2


async def test_an_entity_calls_one_of_another_worker_and_metadata_goes_both_ways() -> None:
    async with net() as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            call = self.probes.Act(
                pb.Request(id=THERE, how="answer"), metadata=(("tenant", "acme"),)
            )
            answer = await call
            first = dict(tuple(await call.initial_metadata()))["first"]
            return pb.Reply(
                text=f"{answer.text} {first!r} {dict(tuple(await call.trailing_metadata()))}"
            )

        @script
        async def answer(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            await context.send_initial_metadata((("first", "1"),))
            context.set_trailing_metadata((("last", "2"),))
            metadata = context.invocation_metadata()
            assert metadata is not None
            return pb.Reply(text=f"{self.turn.worker} {dict(tuple(metadata))}")

        assert it.nodes[0].onward.session.router.node == "w-0"
        said = reply(await it.act(HERE, "ask")).text
        assert said == "w-1 {'tenant': 'acme'} '1' {'last': '2'}"
        assert SEEN[1].chain == (f"probe/{HERE}",)
        assert not SEEN[1].from_seed


async def test_before_its_first_call_a_worker_connects_to_nobody() -> None:
    async with net() as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            return await self.probes.Write(pb.Request(id=THERE, amount=3))

        await it.nodes[1].call(it.call(THERE, "", method="Write"))
        assert it.net.dialled == []
        assert reply(await it.act(HERE, "ask")).total == 3
        assert it.net.dialled == ["seed:1", "w-1:1"]


async def test_an_entity_of_the_same_worker_is_called_in_the_same_way() -> None:
    async with net() as it:
        other = key_on(0, "other")

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            return await self.probes.Write(pb.Request(id=other, amount=3))

        assert reply(await it.act(HERE, "ask")).total == 3
        assert it.net.dialled == ["seed:1", "w-0:1"]


async def test_the_channel_is_one_for_all_and_stubs_last_beyond_their_turn() -> None:
    channels: list[grpc.aio.Channel] = []
    stubs: list[rpc.ProbeAsyncStub] = []
    async with net() as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            channels.append(self.channel)
            stubs.append(rpc.ProbeStub(self.channel))
            return await stubs[0].Write(pb.Request(id=THERE, amount=1))

        await it.act(HERE, "ask")
        await it.act(key_on(0, "other"), "ask")
        assert channels[0] is channels[1]
        assert SEEN[-1].chain == (f"probe/{key_on(0, 'other')}",)


@pytest.mark.parametrize(
    ("turn_s", "given_s", "expected_s"), [(5.0, None, 5.0), (5.0, 2.0, 2.0), (5.0, 9.0, 5.0)]
)
async def test_the_shorter_deadline_goes_with_the_call(
    turn_s: float, given_s: float | None, expected_s: float
) -> None:
    async with net() as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            async for _ in self.probes.Watch(pb.Request(id=THERE, amount=1), timeout=given_s):
                pass
            return await self.probes.Write(pb.Request(id=THERE), timeout=given_s)

        await it.nodes[0].call(it.call(HERE, "ask", deadline_s=turn_s))
        for call in SEEN[1:]:
            assert call.deadline_ns == it.clock.now + int(expected_s * SECOND), call.method


async def test_a_call_of_a_turn_without_a_deadline_gets_the_workers_default() -> None:
    async with net() as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            async for _ in self.probes.Watch(pb.Request(id=THERE, amount=1)):
                pass
            return await self.probes.Write(pb.Request(id=THERE))

        await it.nodes[0].call(it.call(HERE, "ask", deadline_s=None))
        assert [call.deadline_ns for call in SEEN[1:]] == [None, it.clock.now + 10 * SECOND]


async def test_a_call_to_who_waits_for_it_is_refused_at_once() -> None:
    refusals: list[grpc.aio.AioRpcError] = []
    async with net(clock=SystemClock()) as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            return await self.probes.Act(pb.Request(id=THERE, how="ask_back"))

        @script
        async def ask_back(
            self: Scripted, request: pb.Request, context: ServicerContext
        ) -> pb.Reply:
            began = perf_counter()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await self.probes.Write(pb.Request(id=HERE))
            refusals.append(caught.value)
            return pb.Reply(total=int((perf_counter() - began) * 1000))

        call = it.call(HERE, "ask", deadline_s=None)
        began = perf_counter()
        assert reply(await it.nodes[0].call(call)).total < 50
        assert perf_counter() - began < 0.5
        [error] = refusals
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert reason(error) == Reason.CALL_CYCLE.value
        text = error.details() or ""
        assert f"probe/{HERE} -> probe/{THERE} -> probe/{HERE}" in text
        assert "self.outside()" in text
        assert "reminder" in text


async def test_an_entity_that_calls_itself_waits_for_itself() -> None:
    async with net() as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            return await self.probes.Write(pb.Request(id=HERE))

        answer = await it.act(HERE, "ask")
        assert "CALL_CYCLE" in getattr(answer, "message", "")


async def test_outside_a_turn_the_entity_waits_for_nobody() -> None:
    async with net() as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            async with self.outside():
                return await self.probes.Act(pb.Request(id=THERE, how="ask_back"))

        @script
        async def ask_back(
            self: Scripted, request: pb.Request, context: ServicerContext
        ) -> pb.Reply:
            return await self.probes.Write(pb.Request(id=HERE, amount=3))

        call = it.call(HERE, "ask")
        call.chain = ("probe/first",)
        assert reply(await it.nodes[0].call(call)).total == 3
        assert [seen.chain for seen in SEEN[1:]] == [
            ("probe/first",),
            ("probe/first", f"probe/{THERE}"),
        ]


async def test_two_that_call_each_other_in_different_chains_end_by_deadline_and_say_why() -> None:
    async with net(clock=SystemClock()) as it, asyncio.TaskGroup() as tasks:
        began = 0

        @script
        async def cross(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            nonlocal began
            began += 1
            await until("both have begun", lambda: began == 2, within=5)
            other = THERE if self.key == HERE else HERE
            return await self.probes.Write(pb.Request(id=other))

        answers: list[asyncio.Task[Answer]] = []
        for key in (HERE, THERE):
            call = it.call(key, "cross")
            call.deadline_ns = SystemClock().now_ns() + SECOND // 2
            answers.append(tasks.create_task(it.node_of(key).call(call)))
        for task, other in zip(answers, (THERE, HERE), strict=True):
            answer = await task
            assert isinstance(answer, Failed)
            assert answer.code == 4
            # Its own deadline's word, or that of the call in line, whichever comes first.
            own, of_line = f"a call to probe/{other} Write", "Act of this entity has run for"
            assert own in answer.message or of_line in answer.message, answer.message


async def test_a_call_where_there_is_no_turn_says_where_calls_are_made() -> None:
    stubs: list[rpc.ProbeAsyncStub] = []
    errors: list[BaseException] = []
    async with net() as it, asyncio.TaskGroup() as tasks:

        async def call() -> None:
            await GATES.wait("stray")
            try:
                await stubs[0].Write(pb.Request(id=THERE))
            except RuntimeError as error:
                errors.append(error)

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            stubs.append(self.probes)
            tasks.create_task(call())
            with pytest.raises(RuntimeError, match="in a thread"):
                await asyncio.to_thread(lambda: stubs[0].Write(pb.Request(id=THERE)))
            return pb.Reply()

        reply(await it.act(HERE, "ask"))
        GATES.open("stray")
        await until("the stray task has tried", lambda: len(errors) == 1, within=5)
        assert "outside()" in str(errors[0])
        with pytest.raises(RuntimeError, match="outside any turn"):
            await stubs[0].Write(pb.Request(id=THERE))
        with pytest.raises(RuntimeError, match=r"self\.channel: no turn runs"):
            _ = type("Bare", (Entity,), {})().channel
    GATES.clear()
