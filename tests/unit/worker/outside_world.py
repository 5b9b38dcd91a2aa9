"""Entities that go outside, as the tests of that ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from probe.v1 import probe_pb2 as pb

from seedbed import Abort, ServicerContext
from seedbed.errors import CallError
from seedbed.turn import CURRENT
from tests.unit.worker.host_world import (
    GATES,
    LOG,
    Probe,
)

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
            case "return in the block":
                async with self.outside():
                    return pb.Reply(text="from the block")
            case _:
                return await self.go_wrong(request)
        return self.answer()

    async def go_wrong(self, request: pb.Request) -> pb.Reply:
        match request.how:
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
