"""Entities with and without a store, and a store that does what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import grpc
from probe.v1 import probe_pb2 as pb

from seedbed import Abort, ServicerContext
from seedbed.errors import CallError, Reason
from seedbed_worker.core.outcomes import Kept as Kept_
from seedbed_worker.entity_store import Commit, MemoryStore, Ownership
from seedbed_worker.journal.port import History, Kind, Record
from tests.unit.worker.host_world import (
    GATES,
    Probe,
    World,
    act,
    refused,
    reply,
)


class Volatile(Probe, durable=False):
    """Its replies tell `exists` too; a note of its own shows whether it is the same instance."""

    def __init__(self) -> None:
        self.note = ""

    async def Act(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        before = self.state
        match request.how:
            case "delete":
                self.delete()
            case "delete, save":
                self.delete()
                self.state.value += request.amount
                self.save()
            case "save, delete":
                self.save()
                self.delete()
            case "save, then change":
                self.save()
                self.state.value += request.amount
            case "change":
                self.state.value += request.amount
            case "change and fail":
                self.note = "failed once"
                self.state.value += request.amount
                self.save()
                self.passivate()
                raise ZeroDivisionError
            case "delete and fail":
                self.delete()
                raise Abort(grpc.StatusCode.ABORTED, "no")
            case "replace and fail":
                self.state = type(before)(request.amount)
                raise Abort(grpc.StatusCode.ABORTED, "no")
            case "confirm":
                await self.turn.confirm()
            case "no number":
                self.state.value = "text"  # type: ignore[assignment] # what the test is about
                self.save()
                return pb.Reply()
            case "no state":
                self.state.value = object()  # type: ignore[assignment] # likewise
                self.save()
                return pb.Reply()
            case "change, then wait":
                self.state.value += request.amount
                await GATES.wait(request.gate)
                self.save()
            case "ignore the deadline" | "ignore it, unsaved":
                self.state.value += request.amount
                if request.how == "ignore the deadline":
                    self.save()
                with suppress(asyncio.CancelledError):
                    await GATES.wait("never")
            case _:
                return await act(self, request, context)
        return self.answer()

    async def ReadAct(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        if request.how == "delete":
            self.delete()
        return self.answer()

    async def Watch(self, request: pb.Request, context: ServicerContext) -> AsyncIterator[pb.Reply]:
        async for _ in self.changes(request.after):
            if request.how == "end":
                return
            yield self.answer()
            if request.how == "fail":
                self.state.value += 100
                raise ZeroDivisionError

    def answer(self) -> pb.Reply:
        text = f"{self.note} {self.exists}".strip()
        return pb.Reply(total=self.state.value, seq=self.seq, text=text)


class Kept(Volatile, durable=True):
    """The same, in the store."""


class Store(MemoryStore):
    """Counts, waits and fails as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.loads = self.commits = self.asked = 0
        self.gate = ""
        self._newest: Commit | None = None
        self.unreachable = 0
        """So many calls fail."""
        self.lost_answer = False
        """The next commit happens, and fails all the same."""

    async def load(self, type_: str, key: str, shard: Ownership) -> History | None:
        self.loads += 1
        if self._newest is not None:
            await self._newest.ended()
        self._reach()
        return await super().load(type_, key, shard)

    async def outcomes(self, type_: str, key: str, most: int, shard: Ownership) -> Sequence[Kept_]:
        self.asked += 1
        return await super().outcomes(type_, key, most, shard)

    async def outcome(
        self, type_: str, key: str, request_id: str, shard: Ownership
    ) -> Kept_ | None:
        self.asked += 1
        return await super().outcome(type_, key, request_id, shard)

    def commit(self, type_: str, record: Record, shard: Ownership) -> Commit:
        self.commits += 1
        commit = Commit()
        self._newest = commit

        def now() -> None:
            error: CallError | None = None
            try:
                self._reach()
                MemoryStore.commit(self, type_, record, shard)
                if self.lost_answer:
                    self.lost_answer = False
                    raise CallError(Reason.STORE_UNAVAILABLE, "the answer was lost")
            except CallError as refused:
                error = refused
            commit.end(error)

        if self.gate:
            GATES.then(self.gate, now)
        else:
            asyncio.get_running_loop().call_soon(now)
        return commit

    def _reach(self) -> None:
        if self.unreachable:
            self.unreachable -= 1
            raise CallError(Reason.STORE_UNAVAILABLE, "no answer")


def record(key: str, seq: int, data: bytes | None) -> Record:
    """A state that is kept; None: the entity is deleted."""
    kind = Kind.DELETED if data is None else Kind.STATE
    return Record(key, seq, kind, data or b"", time_ms=0)


async def does(w: World, how: str, amount: int = 0) -> pb.Reply:
    return reply(await w.run(w.call("Act", how=how, amount=amount)))


async def fails(w: World, how: str, amount: int = 0) -> str:
    return refused(await w.run(w.call("Act", how=how, amount=amount))).message


async def seen(w: World) -> tuple[int, int, str]:
    found = await w.read()
    return found.total, found.seq, found.text
