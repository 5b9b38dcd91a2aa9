"""Calls that nobody awaits, that wait in line, or that cannot leave."""

from __future__ import annotations

import asyncio
import gc
import logging

import grpc
import grpc.aio
import pytest
from probe.v1 import probe_pb2 as pb

from seedbed import ServicerContext, reason
from seedbed.link import Link
from seedbed.tracing import Kind
from seedbed_worker.jobs import Job
from seedbed_worker.runtime import HostLimits
from tests.support.waiting import until
from tests.unit.sdk.test_router_tracing import PARENT, FakeTracer
from tests.unit.worker.host_world import GATES, reply
from tests.unit.worker.onward_world import (
    HERE,
    THERE,
    Net,
    Scripted,
    current,
    failing,
    ids,
    key_on,
    net,
    number,
    refusal,
    script,
)

# What a turn leaves behind, and how much it may do at once.


async def test_a_call_that_nobody_awaits_goes_on_and_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with net() as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            if request.amount:
                await self.probes.Write(pb.Request(id=THERE, amount=1))
            else:
                self.probes.Write(pb.Request(id=THERE, amount=1))
            return pb.Reply()

        with caplog.at_level(logging.WARNING, "seedbed_worker.turn_calls"):
            reply(await it.nodes[0].call(it.call(HERE, "ask", amount=1)))
            assert not warnings(caplog)
            reply(await it.act(HERE, "ask"))
        [record] = warnings(caplog)
        assert record.message == "call never awaited"
        assert record.__dict__["target"] == "/probe.v1.Probe/Write"
        assert record.__dict__["method"] == "/probe.v1.Probe/Act"
        assert record.__dict__["entity"].endswith(":Scripted")
        await until("it went on", lambda: len(ids(THERE)) == 2, within=5)


async def test_a_call_that_was_answered_but_never_awaited_is_warned_of_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with net() as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            self.probes.Write(pb.Request(id=THERE))
            await self.probes.Write(pb.Request(id=THERE))
            late = self.probes.Write(pb.Request(id=THERE))
            await self.probes.Write(pb.Request(id=THERE))
            return await late

        with caplog.at_level(logging.WARNING, "seedbed_worker.turn_calls"):
            reply(await it.act(HERE, "ask"))
        assert [record.message for record in warnings(caplog)] == ["call never awaited"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "seedbed_worker.turn_calls"]


async def test_a_turn_says_in_words_what_it_waits_for() -> None:
    jobs: list[Job] = []
    async with net() as it, asyncio.TaskGroup() as tasks:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            jobs.append(current())
            held = self.probes.Act(pb.Request(id=THERE, how="hold"))
            other = self.probes.Act(pb.Request(id=key_on(1, "more"), how="hold"))
            await held
            return await other

        @script
        async def hold(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            await GATES.wait("hold")
            return pb.Reply()

        asking = tasks.create_task(it.act(HERE, "ask"))
        await GATES.reach("hold")
        calls = jobs[0].onward
        assert calls is not None
        assert calls.waits_for() == f"a call to probe/{THERE} Act and 1 more"
        GATES.open("hold")
        reply(await asking)
        assert calls.waits_for() == ""
    GATES.clear()


async def test_one_entity_calls_ten_thousand_with_only_so_many_under_way() -> None:
    running, most = 0, 0
    async with net(limits=HostLimits(onward_calls=64)) as it:

        @script
        async def fan_out(
            self: Scripted, request: pb.Request, context: ServicerContext
        ) -> pb.Reply:
            act = self.probes.Act
            async with self.outside():
                calls = [act(pb.Request(id=f"member-{n}", how="count")) for n in range(10_000)]
                # As users do; the rule about task groups is this project's own.
                replies = await asyncio.gather(*calls)  # noqa: TID251
            return pb.Reply(total=sum(one.total for one in replies))

        @script
        async def count(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if request.id.endswith("00"):  # what this asks is slow
                most = max(most, sum(len(list(link.passengers())) for link in links(it)))
            await asyncio.sleep(0)
            running -= 1
            return pb.Reply(total=1)

        assert reply(await it.act(HERE, "fan_out")).total == 10_000
        assert 32 < most <= 64
        assert it.nodes[0].host.rt.calls == 0


def links(it: Net) -> list[Link]:
    router = it.nodes[0].onward.session.router
    return [link for _, link in router._links.all()]  # pyright: ignore[reportPrivateUsage]


async def test_calls_in_line_end_with_their_own_deadline_and_are_skipped_if_given_up() -> None:
    gc.collect()  # not while the deadline runs: the test before leaves much behind
    async with net(limits=HostLimits(onward_calls=1)) as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            holds = self.probes.Act(pb.Request(id=THERE, how="hold"))
            late = self.probes.Write(pb.Request(id=THERE, amount=100), timeout=0.3)
            given_up = self.probes.Write(pb.Request(id=THERE, amount=10))
            last = self.probes.Write(pb.Request(id=THERE, amount=1))
            given_up.cancel()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await late
            assert reason(caught.value) == "DEADLINE"
            assert "nothing ran" in (caught.value.details() or "")
            GATES.open("hold")
            await holds
            return await last

        @script
        async def hold(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            await GATES.wait("hold")
            return pb.Reply()

        assert reply(await it.act(HERE, "ask")).total == 1
    GATES.clear()


async def test_calls_before_the_first_routes_wait_and_those_given_up_still_count() -> None:
    async with net(told=False, limits=HostLimits(onward_calls=1)) as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            first = self.probes.Write(pb.Request(id=THERE))
            second = self.probes.Write(pb.Request(id=THERE))
            if request.amount:
                first.cancel()
                it.seed.open.set()
                return await second
            await first
            return await second

        for amount in (1, 0):
            reply(await it.nodes[0].call(it.call(HERE, "ask", amount=amount)))
        second, again_first, again_second = ids(THERE)
        assert second == again_second != again_first


async def test_too_large_a_request_is_refused_before_it_leaves() -> None:
    async with net() as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await self.probes.Write(pb.Request(id=THERE, gate="x" * (4 << 20)))
            return pb.Reply(text=reason(caught.value))

        assert reply(await it.act(HERE, "ask")).text == "TOO_LARGE"


# Hooks and traces.


async def test_calls_of_a_hook_are_not_the_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = 0

    async def activated(self: Scripted) -> None:
        nonlocal hooks
        if self.key == HERE:
            hooks += 1
            await self.probes.Write(pb.Request(id=THERE))

    monkeypatch.setattr(Scripted, "activated", activated)
    async with net() as it:
        failing("moving")

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            await self.probes.Act(pb.Request(id=THERE, how="moving"))
            raise AssertionError

        assert number(await refusal(it)) == 14
        assert number(await refusal(it)) == 14
        assert hooks == 1
        hook, first, second = ids(THERE)
        assert first == second != hook


@pytest.mark.parametrize("method", ["Act", "Watch"])
async def test_the_turns_span_is_the_parent_of_its_calls(method: str) -> None:
    tracer = FakeTracer(Kind.TURN)
    async with net(tracer=tracer) as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            return await self.probes.Write(pb.Request(id=THERE))

        call = it.call(HERE, "ask", method=method, amount=1)
        call.traceparent = PARENT
        host = it.nodes[0].host
        job = (
            host.submit(call, lambda _: None)
            if method == "Act"
            else host.open(call, lambda _: None, lambda _: None, 9)
        )
        assert job is not None
        await until("it has ended", lambda: job.ended, within=5)
        turn, onward = tracer.spans
        assert turn.parent == PARENT
        assert onward.parent == turn.traceparent
