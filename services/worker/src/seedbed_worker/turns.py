"""Unary calls: one turn, or several around waits, and one reply."""

from __future__ import annotations

from seedbed.adapters import EntityContext
from seedbed.calls import Failed, Metadata, Replied
from seedbed.tracing import Kind
from seedbed.turn import CURRENT
from seedbed_worker.answers import code_and_message
from seedbed_worker.jobs import Answer
from seedbed_worker.refusals import not_implemented
from seedbed_worker.visits import Visit


class UnaryCall(Visit):
    """A unary call."""

    async def run(self) -> None:
        self.entered = True
        CURRENT.set(self)
        home = self.home
        answer: Answer | None = None
        try:
            answer = self.may_begin()
            if answer is None and not self.ended:
                if not self.shard.lease.attached:
                    home.readmit(self)
                    return
                traceparent = self.call.traceparent
                if traceparent and home.rt.tracer.wants(traceparent):
                    answer = await self._traced()
                else:
                    answer = await self._turn_of_method()
        except BaseException as error:
            answer = self.failure(error)
        self.open = False
        if answer is not None:  # else it ended before this task's first step
            self.end(self.gated(answer))
        home.finish(self)

    async def _turn_of_method(self) -> Replied | Failed:
        method, cell = self.method, self.cell
        assert cell is not None
        if method.unary is None:
            return not_implemented(self.call.method)
        request = self.parse()
        entity = cell.entity
        if entity is None:
            entity = await self.home.activate(self, cell)
        self.entity = entity
        self.context = context = EntityContext(self.call, self.home.rt.clock)
        self.began = self.open = True
        reply = await method.unary(entity, request, context)
        if context.aborted is not None:  # stands, though the method went on
            self.saved = self.leaving = False
            return context.aborted
        status = context.status
        if status is not None and status.code:
            self.commit()
            return status
        data = self.serialise(reply)
        self.commit()
        trailing: Metadata = context.trailing
        return Replied(data, self.shard.epoch, context.initial, trailing)

    async def _traced(self) -> Answer:
        call = self.call
        span = self.home.rt.tracer.span(
            Kind.TURN,
            call.method,
            call.traceparent,
            call.tracestate,
            {"seedbed.shard": self.shard.number, "seedbed.epoch": self.shard.epoch},
        )
        answer: Answer
        try:
            with span.current():
                answer = await self._turn_of_method()
        except BaseException as error:
            answer = self.failure(error)
        span.end(*code_and_message(answer))
        return answer
