"""Under which ids a turn's calls leave, and that a repeat repeats them."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from probe.v1 import probe_pb2 as pb

from seedbed import ServicerContext, once, reason
from seedbed.calls import Failed
from seedbed.errors import CallError, Reason
from seedbed.request_ids import minted_at_ms
from tests.unit.worker.host_world import reply
from tests.unit.worker.onward_world import (
    HERE,
    THERE,
    Net,
    Scripted,
    current,
    ids,
    key_on,
    net,
    script,
)

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
