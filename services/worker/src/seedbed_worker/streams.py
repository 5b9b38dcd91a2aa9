"""Server streams: a read-only turn for each item, nothing held between two of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from seedbed.adapters import EntityContext
from seedbed.calls import EntityCall, Failed, Replied
from seedbed.errors import Reason
from seedbed.tracing import Kind
from seedbed.turn import CURRENT
from seedbed_worker.answers import code_and_message
from seedbed_worker.hosted import HostedMethod
from seedbed_worker.household import Household
from seedbed_worker.jobs import Answer, OnEnd
from seedbed_worker.refusals import not_implemented
from seedbed_worker.replies import serialise
from seedbed_worker.visits import Visit, moved

OnItem: TypeAlias = Callable[[Replied], object]


class StreamCall(Visit):
    """An open stream. Its reader grants credit, one for each item that may be sent."""

    __slots__ = ("_reader", "credit", "on_item")

    def __init__(
        self,
        home: Household,
        method: HostedMethod,
        call: EntityCall,
        on_item: OnItem,
        on_end: OnEnd,
        credit: int,
    ) -> None:
        super().__init__(home, method, call, on_end)
        self.streaming = True
        self.on_item = on_item
        self.credit = credit
        self._reader: asyncio.Future[None] | None = None

    def grant(self, items: int) -> None:
        """The reader may be sent so many more."""
        self.credit += items
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def outside(self) -> AbstractAsyncContextManager[None]:
        raise RuntimeError(
            "outside(): not in a stream: let a method do the slow work and save what comes of it,"
            " and the stream follow by changes()"
        )

    def abandon(self) -> None:
        """The reader is gone."""
        if not self.ended:
            self.ended = True
            if not self.handed or not self.open:
                self.cancel()  # else it ends after the turn that runs

    async def run(self) -> None:
        CURRENT.set(self)
        home = self.home
        generator: AsyncGenerator[object] | None = None
        span = None
        answer: Answer | None = None
        try:
            answer = self.may_begin()
            if answer is None and not self.ended and not self.shard.lease.attached:
                home.readmit(self)
                return
            if answer is None and self.method.stream is None:
                answer = not_implemented(self.call.method)
            if answer is None and not self.ended:
                call = self.call
                traceparent = call.traceparent
                if traceparent and home.rt.tracer.wants(traceparent):
                    span = home.rt.tracer.span(Kind.TURN, call.method, traceparent, call.tracestate)
                    # Of the calls that it makes.
                    call.traceparent, call.tracestate = span.traceparent, span.tracestate
                generator = await self._open()
                answer = await self._items(generator)
                await home.commits.kept(self.call.key)
        except BaseException as error:
            self.open = False
            answer = self.failure(error)
            await home.commits.undo(self)
        self.open = False
        if answer is not None:
            self.settle(answer)
        home.part(self)
        if generator is not None:
            await self._close(generator)
        if span is not None:
            span.end(*code_and_message(answer))
        home.forget(self)

    async def _open(self) -> AsyncGenerator[object]:
        cell = self.cell
        assert cell is not None
        assert self.method.stream is not None
        request = self.parse()
        entity = cell.entity
        if entity is None:
            entity = await self.home.activate(self, cell)
        self.entity = entity
        self.context = EntityContext(self.call, self.home.rt.clock)
        self.began = self.open = True
        return self.method.stream(entity, request, self.context)

    async def _items(self, generator: AsyncGenerator[object]) -> Failed:
        context = self.context
        assert context is not None
        async for item in generator:
            if context.aborted is not None:
                break
            await self._send(Replied(serialise(self, item), self.shard.epoch, context.initial))
            if self.ended:
                break
        if context.aborted is not None:
            return context.aborted
        end = context.status
        return end or Failed(
            0, "", started=True, epoch=self.shard.epoch,
            initial=context.initial, trailing=context.trailing,
        )  # fmt: skip

    async def _send(self, item: Replied) -> None:
        """Give the item to the reader, outside any turn, and come back into one."""
        self.leave_turn()
        await self.home.commits.kept(self.call.key)
        if not self.credit:
            self.require_home()
            await self._wait_for_credit()
        if self.ended:
            return
        rt = self.home.rt
        if not self.shard.serves(rt.clock.now_ns(), self.call.type, rt.region):
            raise moved()
        self.credit -= 1
        self.on_item(item)
        await self.enter_turn()

    async def _wait_for_credit(self) -> None:
        rt = self.home.rt
        stall = _Stall(self)
        tick = rt.timers.add(rt.clock.now_ns() + int(rt.limits.stream_stall_s * 1e9), stall)
        try:
            while not self.credit:
                self._reader = asyncio.get_running_loop().create_future()
                await self._reader
        finally:
            rt.timers.discard(tick, stall)

    async def _close(self, generator: AsyncGenerator[object]) -> None:
        """Let the method's own `finally` run; it has no turn any more."""
        try:
            await generator.aclose()
        except BaseException as error:
            self.failure(error)


class _Stall:
    """Ends a stream whose reader takes nothing."""

    __slots__ = ("_stream",)

    def __init__(self, stream: StreamCall) -> None:
        self._stream = stream

    def expire(self) -> None:
        if not self._stream.credit:
            seconds = self._stream.home.rt.limits.stream_stall_s
            self._stream.stop(
                Reason.OVERLOADED, f"the stream's reader took nothing for {seconds:g} s"
            )
