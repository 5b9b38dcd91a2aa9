"""What a turn's calls to other entities carry, and what they may not do."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter

import grpc
import grpc.aio
import pytest
from probe.v1 import probe_pb2 as pb
from probe.v1 import probe_pb2_grpc as rpc

from seedbed import Entity, ServicerContext, once, reason
from seedbed.calls import Failed
from seedbed.client_outcomes import rpc_error
from seedbed.clock import SystemClock
from seedbed.errors import CallError, Reason
from seedbed.link import Link
from seedbed.request_ids import minted_at_ms
from seedbed.tracing import Kind
from seedbed_worker.jobs import Answer, Job
from seedbed_worker.onward_errors import OnwardError
from seedbed_worker.runtime import HostLimits
from tests.support.waiting import until
from tests.unit.sdk.test_router_tracing import PARENT, FakeTracer
from tests.unit.worker.host_world import GATES, SECOND, reply
from tests.unit.worker.onward_world import SEEN, Net, Scripted, current, key_on, net, script

HERE, THERE = key_on(0, "here"), key_on(1, "there")


def ids(key: str) -> list[str]:
    return [call.request_id for call in SEEN if call.key == key]


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
            assert f"a call to probe/{other} Write" in answer.message, answer.message


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


# Ids.


async def twice(it: Net, first: str, second: str, *, later_s: float = 5.0) -> None:
    @script
    async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
        for _ in range(2):
            await self.probes.Write(pb.Request(id=THERE))
        return await self.probes.Act(pb.Request(id=THERE, how="nothing"))

    @script
    async def nothing(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
        return pb.Reply()

    await it.act(HERE, "ask", request_id=first)
    it.clock.advance(later_s)
    await it.act(HERE, "ask", request_id=second)


async def test_a_repeated_turn_repeats_its_calls_under_the_same_ids() -> None:
    async with net() as it:
        minted = it.nodes[0].onward.session.mint()
        it.clock.advance(60)
        await twice(it, minted, minted)
        made = ids(THERE)
        assert made[:3] == made[3:]
        assert len(set(made)) == 3
        assert {minted_at_ms(id_) for id_ in made} == {minted_at_ms(minted)}


async def test_calls_of_a_turn_under_a_callers_key_carry_the_time_of_its_first_attempt() -> None:
    async with net() as it:
        began_ms = it.clock.wall_ms()
        await twice(it, "order-7", "order-7")
        made = ids(THERE)
        assert made[:3] == made[3:]
        assert {minted_at_ms(id_) for id_ in made} == {began_ms}


async def test_calls_of_another_turn_have_other_ids() -> None:
    async with net() as it:
        await twice(it, "order-7", "order-8")
        assert len(set(ids(THERE))) == 6


async def test_after_the_window_a_callers_key_is_a_new_call() -> None:
    async with net() as it:
        await twice(it, "order-7", "order-7", later_s=3600.0)
        assert len(set(ids(THERE))) == 6


async def test_a_name_by_once_is_the_calls_id_and_counts_no_ordinal() -> None:
    async with net() as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            if request.amount:
                metadata = once(f"{self.key}/credit")
                await self.probes.Write(pb.Request(id=THERE), metadata=metadata)
            return await self.probes.Write(pb.Request(id=THERE))

        for amount in (0, 1):
            await it.nodes[0].call(it.call(HERE, "ask", amount=amount))
        plain, named, again = ids(THERE)
        assert named == f"{HERE}/credit"
        assert plain == again


async def test_a_name_that_is_too_long_is_refused_before_it_leaves() -> None:
    async with net() as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await self.probes.Write(pb.Request(id=THERE), metadata=once("x" * 256))
            await self.probes.Write(pb.Request(id=THERE), metadata=once("x" * 255))
            return pb.Reply(text=f"{reason(caught.value)}: {caught.value.details()}")

        text = reply(await it.act(HERE, "ask")).text
        assert text.startswith("BAD_REQUEST: idempotency-key has 256")
        assert ids(THERE) == ["x" * 255]


async def test_every_call_of_a_stream_has_an_id_of_its_own() -> None:
    async with net() as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            return await self.probes.Write(pb.Request(id=THERE))

        for _ in range(2):
            stream = it.nodes[0].host.open(
                it.call(HERE, "ask", method="Watch", amount=3), lambda _: None, lambda _: None, 9
            )
            assert stream is not None
            while not stream.ended:
                await asyncio.sleep(0)
        assert len(set(ids(THERE))) == 6


@pytest.mark.parametrize("lost", ["call", "reply"])
async def test_a_repeat_has_the_same_ids_wherever_the_first_attempt_failed(lost: str) -> None:
    """Each of a turn's calls in turn does not run, or runs and its reply is lost with the Link."""
    other = key_on(1, "other")
    asked: list[str] = []
    fail_at = 0

    async with net() as it:

        @script
        async def transfer(
            self: Scripted, request: pb.Request, context: ServicerContext
        ) -> pb.Reply:
            for key in (THERE, other, THERE, other):
                await self.probes.Act(pb.Request(id=key, how="step"))
            return pb.Reply()

        @script
        async def step(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            asked.append(current().call.request_id)
            if len(asked) == fail_at:
                if lost == "call":
                    raise CallError(Reason.MOVING, "for the test")
                it.net.cut("w-1:1")
            return pb.Reply()

        for number in range(1, 5):
            name = f"transfer-{number}"
            fail_at = number
            asked.clear()
            assert isinstance(await it.act(HERE, "transfer", request_id=name), Failed)
            first = list(asked)
            fail_at = 0
            asked.clear()
            it.clock.advance(1)
            reply(await it.act(HERE, "transfer", request_id=name))
            assert len(first) == number
            assert asked[:number] == first
            assert len(set(asked)) == 4


# Errors.


@pytest.mark.parametrize("how", ["overloaded", "moving", "abort_late", "exhausted"])
async def test_a_passing_failure_of_the_only_call_is_passed_on(how: str) -> None:
    expected = {
        "overloaded": (8, "OVERLOADED"),
        "moving": (14, "MOVING"),
        "abort_late": (4, ""),
        "exhausted": (8, ""),
    }[how]
    async with net() as it:
        failing(how)

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(as_task(self, request.amount))
            return pb.Reply()

        async def as_task(self: Scripted, amount: int) -> None:
            if amount:
                await self.probes.Write(pb.Request(id=THERE))
            await self.probes.Act(pb.Request(id=THERE, how=how))

        error = await refusal(it)
        assert (number(error), reason(error)) == expected
        assert error.details() == "in the way"
        trailing = dict(tuple(error.trailing_metadata() or ()))
        assert trailing.get("grpc-retry-pushback-ms") == ("250" if expected[1] else None)
        # The second call of a turn: the first may have done something.
        error = await refusal(it, amount=1)
        assert number(error) == 2
        assert f"the call to probe/{THERE} Act ended with" in (error.details() or "")
        assert reason(error) == ""


@pytest.mark.parametrize("how", ["unavailable", "not_found", "cycle"])
async def test_any_other_failure_says_what_was_called_and_how_it_ended(how: str) -> None:
    async with net() as it:
        failing(how)

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            target = HERE if how == "cycle" else THERE
            return await self.probes.Act(pb.Request(id=target, how=how))

        error = await refusal(it)
        text = error.details() or ""
        assert number(error) == 2
        if how == "cycle":
            assert f"the call to probe/{HERE} Act ended with FAILED_PRECONDITION" in text
            assert "CALL_CYCLE" in text
        else:
            code = how.upper()
            assert text == f"the call to probe/{THERE} Act ended with {code}"


@pytest.mark.parametrize("inside", [True, False])
async def test_in_and_after_outside_nothing_is_passed_on(inside: bool) -> None:
    async with net() as it:
        failing("moving")

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            async with self.outside():
                if inside:
                    await self.probes.Act(pb.Request(id=THERE, how="moving"))
            return await self.probes.Act(pb.Request(id=THERE, how="moving"))

        error = await refusal(it)
        assert number(error) == 2
        assert "UNAVAILABLE (MOVING: in the way)" in (error.details() or "")


async def test_unnamed_calls_in_and_after_outside_go_on_counting() -> None:
    async with net() as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            await self.probes.Write(pb.Request(id=THERE))
            async with self.outside():
                await self.probes.Write(pb.Request(id=THERE))
            return await self.probes.Write(pb.Request(id=THERE))

        for _ in range(2):
            reply(await it.act(HERE, "ask"))
        made = ids(THERE)
        assert made[:3] == made[3:]
        assert len(set(made)) == 3


async def test_an_error_of_another_turn_is_not_this_ones() -> None:
    kept: list[OnwardError] = []
    async with net() as it:
        failing("moving")

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            if kept:
                raise kept[0]
            try:
                await self.probes.Act(pb.Request(id=THERE, how="moving"))
            except OnwardError as error:
                kept.append(error)
                raise
            raise AssertionError

        assert number(await refusal(it)) == 14
        assert number(await refusal(it)) == 2


def failing(how: str) -> None:
    """Let `Act` of this name fail, with Seedbed's reason or as an entity's own status."""
    codes = {
        "abort_late": grpc.StatusCode.DEADLINE_EXCEEDED,
        "exhausted": grpc.StatusCode.RESOURCE_EXHAUSTED,
        "unavailable": grpc.StatusCode.UNAVAILABLE,
        "not_found": grpc.StatusCode.NOT_FOUND,
    }

    async def fail(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
        if how in codes:
            await context.abort(codes[how], "in the way")
        raise CallError(Reason[how.upper()], "in the way", retry_after_s=0.25)

    fail.__name__ = how
    script(fail)


async def refusal(it: Net, *, amount: int = 0) -> grpc.aio.AioRpcError:
    """The error that a client of the first entity would see."""
    answer = await it.nodes[0].call(it.call(HERE, "ask", amount=amount))
    assert isinstance(answer, Failed), answer
    return rpc_error(answer)


def number(error: grpc.aio.AioRpcError) -> int:
    code: int = error.code().value[0]
    return code


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
    return it.nodes[0].onward.session.router._links.all()  # pyright: ignore[reportPrivateUsage]


async def test_calls_in_line_end_with_their_own_deadline_and_are_skipped_if_given_up() -> None:
    async with net(limits=HostLimits(onward_calls=1)) as it:

        @script
        async def ask(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
            holds = self.probes.Act(pb.Request(id=THERE, how="hold"))
            late = self.probes.Write(pb.Request(id=THERE, amount=100), timeout=0.05)
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
