"""What answers a turn whose call to another entity has failed."""

from __future__ import annotations

import asyncio

import pytest
from probe.v1 import probe_pb2 as pb

from seedbed import ServicerContext, reason
from seedbed_worker.onward_errors import OnwardError
from tests.unit.worker.host_world import reply
from tests.unit.worker.onward_world import (
    HERE,
    THERE,
    Scripted,
    failing,
    ids,
    net,
    number,
    refusal,
    script,
)

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
