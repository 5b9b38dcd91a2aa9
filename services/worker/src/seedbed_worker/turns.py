"""Unary calls: one turn, or several around waits, and one reply."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from seedbed.adapters import EntityContext
from seedbed.calls import Failed, Replied
from seedbed.tracing import Kind
from seedbed.turn import CURRENT
from seedbed_worker.absence import Absence
from seedbed_worker.answers import code_and_message
from seedbed_worker.jobs import Answer
from seedbed_worker.refusals import not_implemented
from seedbed_worker.replies import serialise
from seedbed_worker.runners import Work
from seedbed_worker.visits import Visit


class _Aborted(Exception):
    """The method aborted its call, and returned all the same."""


class UnaryCall(Visit):
    """A unary call."""

    __slots__ = ()

    def run(self) -> Work:
        traceparent = self.call.traceparent
        if traceparent and self.home.rt.tracer.wants(traceparent):
            return self._traced()
        return self._run()

    async def _run(self) -> None:
        # All that a plain call needs, in one coroutine: each further one costs 0.2 µs.
        CURRENT.set(self)
        home, method = self.home, self.method
        answer: Answer | None = None
        try:
            answer = self.may_begin()
            if answer is None and not self.ended:
                if not self.shard.lease.attached:
                    home.readmit(self)
                    return
                if method.unary is None:
                    answer = not_implemented(self.call.method)
                else:
                    request = self.parse()
                    assert self.cell is not None
                    entity = self.cell.entity
                    if entity is None:
                        entity = await home.activate(self, self.cell)
                    self.entity = entity
                    if home.repeats is not None and method.exclusive and self.call.request_id:
                        is_known, answer = home.repeats.look(self)
                        if not is_known:
                            answer = await home.repeats.ask(self)
                    if answer is None:
                        self.context = context = EntityContext(self.call, home.rt.clock)
                        self.began = self.open = True
                        reply = await method.unary(entity, request, context)
                        self.open = False
                        answer = self._answer(reply, context)
                        if self.change is not None or self.ended:
                            home.commits.keep(self, answer)
        except BaseException as error:
            self.open = False
            answer = self.failure(error)
            await home.commits.undo(self)
        if answer is not None:  # else it ended before this task's first step
            under_way = home.commits.under_way
            if under_way and self.began and not self.ended and self.call.key in under_way:
                self.hold(answer, under_way[self.call.key])
            else:
                self.settle(answer)
        home.finish(self)

    def _answer(self, reply: object, context: EntityContext) -> Replied | Failed:
        """The method has returned; raises if its turn failed all the same."""
        if self.absence is not None and self.absence.failure is not None:
            raise self.absence.failure
        if not context.touched:
            return Replied(serialise(self, reply), self.shard.epoch)
        if context.aborted is not None:  # stands, though the method went on
            raise _Aborted
        status = context.status
        if status is not None and status.code:
            return status
        data = serialise(self, reply)
        return Replied(data, self.shard.epoch, context.initial, context.trailing)

    def outside(self) -> AbstractAsyncContextManager[None]:
        if self.in_hook:
            return super().outside()
        return Absence(self)

    async def _traced(self) -> None:
        call, shard = self.call, self.shard
        span = self.home.rt.tracer.span(
            Kind.TURN,
            call.method,
            call.traceparent,
            call.tracestate,
            {"seedbed.shard": shard.number, "seedbed.epoch": shard.epoch},
        )
        parent = (call.traceparent, call.tracestate)
        call.traceparent, call.tracestate = span.traceparent, span.tracestate  # of its own calls
        with span.current():
            await self._run()
        if self.held is not None:
            await self.held.ended()
        if self.answer is not None:
            span.end(*code_and_message(self.answer))
        else:  # nothing ran, and it has been admitted anew
            call.traceparent, call.tracestate = parent
