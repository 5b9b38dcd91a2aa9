"""One call on its way through a router: it boards one Link after another until it has its answer.

Every state change goes through the router; here is what all calls do with it, and a unary one. A
stream is in `stream_flight`.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from seedbed.calls import EntityCall, Failed, Lost, NotHere, Outcome, Replied
from seedbed.decision import After, after, outcome_unknown, waited_in_vain, waits_for_table
from seedbed.errors import CallError, ProtocolError, Reason
from seedbed.frames import reply_from_wire
from seedbed.link import Link
from seedbed.status import failed
from seedbed.tracing import Kind, Span, Tracer
from seedbed.v1 import link_pb2

GRACE_NS: Final = 100_000_000
"""How long after its deadline a worker's own answer to a call is waited for."""

NEVER: Final = 1 << 63
"""Later than every time in ns."""


class Desk(Protocol):
    """What a flight needs of its router."""

    def route(self, flight: Flight) -> None:
        """Send it, or let it wait, or end it."""
        ...

    def refused(self, call: EntityCall, outcome: Outcome) -> None:
        """Who was asked is not the owner: the shard's calls wait for another table."""
        ...

    def retire(self, flight: Flight) -> None:
        """It is not on any Link, and does not wait: forget its deadline."""
        ...

    def watch(self, flight: Flight, at_ns: int) -> None:
        """Call its `expired` at this time."""
        ...

    def now_ns(self) -> int: ...


class Flight:
    """A call between its start and its one answer."""

    __slots__ = (
        "_parent",
        "call",
        "came",
        "credit",
        "desk",
        "durable",
        "give_up_ns",
        "id",
        "link",
        "losses",
        "read_only",
        "repeatable",
        "sent",
        "span",
        "tick",
    )

    def __init__(
        self, desk: Desk, call: EntityCall, *, repeatable: bool, read_only: bool, credit: int = 0
    ) -> None:
        self.desk = desk
        self.call = call
        self.credit = credit
        self.repeatable = repeatable
        self.read_only = read_only
        self.id = 0
        self.came = 0
        """When it came to the router, before or after others; 0 while that does not matter."""
        self.sent = False
        self.durable = False
        """Who has it now remembers what came of it: a repeat has no second effect."""
        self.link: Link | None = None
        self.tick = 0
        self.give_up_ns = NEVER
        """The answer of this attempt is waited for until then."""
        self.losses = 0
        self.span: Span | None = None

    def trace(self, tracer: Tracer, address: str) -> None:
        """Record this attempt: what it carries to the worker names its span as the parent."""
        call = self.call
        self._parent = (call.traceparent, call.tracestate)
        self.span = span = tracer.span(
            Kind.LINK,
            call.method,
            *self._parent,
            {
                "server.address": address,
                "seedbed.type": call.type,
                "seedbed.shard": call.shard,
                "seedbed.epoch": call.epoch,
                "seedbed.attempt": call.attempt,
            },
        )
        call.traceparent, call.tracestate = span.traceparent, span.tracestate

    def land(self, outcome: Outcome | None) -> None:
        """The recorded attempt is over; None if nobody waits for its outcome any more."""
        if self.span is not None:
            self.span.end(*_code_and_message(outcome))
            self.span = None
            self.call.traceparent, self.call.tracestate = self._parent

    def lost(self) -> None:
        """The stream broke, or an owner that has lost the shard does not answer."""
        self.arrived(Lost(self.sent))

    def give_up_at(self, at_ns: int) -> None:
        """Who carries it has lost its shard: wait for the answer until then, and drop it."""
        if not self.sent or at_ns <= self.desk.now_ns():
            self.give_up()
        elif at_ns < self.give_up_ns:
            self.give_up_ns = at_ns
            deadline_ns = self.call.deadline_ns
            self.desk.watch(
                self, min(at_ns, NEVER if deadline_ns is None else deadline_ns + GRACE_NS)
            )

    def give_up(self) -> None:
        """No answer comes any more."""
        if self.link is not None:
            self.link.drop(self)
        self.lost()

    def replied(self, reply: link_pb2.Reply) -> bool:
        raise NotImplementedError

    def finish(self, outcome: Replied | Failed) -> None:
        """The one answer. Later ones are dropped."""
        raise NotImplementedError

    def stalled(self, now_ns: int) -> bool:
        """Its reader takes nothing, for too long."""
        return False

    def refuse(self, error: CallError) -> None:
        """End with an error of ours. What may have run is never said not to have."""
        if self.losses and not self.read_only and error.reason is not Reason.DEADLINE:
            error = outcome_unknown("the worker was lost, and the call could not be repeated")
        self.finish(failed(error, started=bool(self.losses)))

    def arrived(self, outcome: Outcome) -> None:
        """An attempt is over."""
        self.link = None
        if self.span is not None:
            self.land(outcome)
        match after(
            outcome,
            self.call,
            repeatable=self.repeatable or self.durable,
            read_only=self.read_only,
            losses=self.losses,
        ):
            case After.ANSWER:
                assert isinstance(outcome, Replied | Failed)
                self.finish(outcome)
                return
            case After.UNKNOWN:
                self.finish(failed(outcome_unknown("the worker was lost"), started=True))
                return
            case After.REPEAT:
                self.losses += 1
                self.call.attempt += 1
            case After.AGAIN:
                pass
        if waits_for_table(outcome):
            self.desk.refused(self.call, outcome)
        self.came = self.came or self.id
        self.give_up_ns = NEVER
        self.desk.retire(self)
        self.desk.route(self)

    def waited(self, *, workers: bool, retry_after_s: float | None = None) -> None:
        """It has waited for an owner as long as it could, or it knows that it would be in vain."""
        self.finish(
            failed(
                waited_in_vain(
                    self.call.type,
                    self.call.shard,
                    workers=workers,
                    may_have_run=bool(self.losses) and not self.read_only,
                    retry_after_s=retry_after_s,
                ),
                started=bool(self.losses),
            )
        )


class UnaryFlight(Flight):
    """A call with one reply: a future, whatever happens on the way."""

    __slots__ = ("future",)

    def __init__(
        self,
        desk: Desk,
        call: EntityCall,
        future: asyncio.Future[Replied | Failed],
        *,
        repeatable: bool,
        read_only: bool,
    ) -> None:
        super().__init__(desk, call, repeatable=repeatable, read_only=read_only)
        self.future = future

    def replied(self, reply: link_pb2.Reply) -> bool:
        outcome = reply_from_wire(reply)
        if isinstance(outcome, bytes):
            raise ProtocolError(f"a stream's item came for {self.call.method}, which is unary")
        if isinstance(outcome, Replied) and outcome.epoch >= self.call.epoch:
            # What `after` says of it, without the detour: nearly every call ends here.
            self.link = None
            self.finish(outcome)
        else:
            self.arrived(outcome)
        return True

    def finish(self, outcome: Replied | Failed) -> None:
        if self.span is not None:
            self.land(outcome)
        self.desk.retire(self)
        if not self.future.done():
            self.future.set_result(outcome)


def _code_and_message(outcome: Outcome | None) -> tuple[int, str]:
    """What a span says of an attempt; what gRPC has no code for is UNAVAILABLE or CANCELLED."""
    match outcome:
        case Replied():
            return 0, ""
        case Failed():
            return outcome.code, outcome.message
        case NotHere():
            return 14, "not the owner any more"
        case Lost():
            return 14, "lost"
        case None:
            return 1, "given up"
