"""A call on its way through an entity: what is common to unary calls, streams and hooks.

A job ends for its caller once (`end`), which may be before its task ends: at its deadline and when
its shard is lost, the caller is answered at once and the task is cancelled; the entity stays taken
until the task really is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Protocol, TypeAlias

from google.protobuf.message import DecodeError, Message

from seedbed.adapters import EntityContext
from seedbed.calls import EntityCall, Failed, NotHere, Replied
from seedbed.entity import AnyEntity
from seedbed.errors import CallError, Reason
from seedbed.status import failed
from seedbed.turn import Turn
from seedbed_worker.answers import WrongReply, failure
from seedbed_worker.cells import Cell, Shard
from seedbed_worker.core.mailbox import Standing, Ticket
from seedbed_worker.hosted import HostedClass, HostedMethod
from seedbed_worker.runtime import Runtime

Answer: TypeAlias = Replied | Failed | NotHere
OnEnd: TypeAlias = Callable[[Answer], object]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Household(Protocol):
    """The entities of one type, as a job needs them."""

    @property
    def rt(self) -> Runtime: ...

    @property
    def hosted(self) -> HostedClass: ...

    async def activate(self, job: Job, cell: Cell) -> AnyEntity:
        """Make the cell's entity; the job holds it alone."""
        ...

    def enter(self, cell: Cell, job: Job) -> bool:
        """Stand in line; True if the job may begin at once."""
        ...

    def leave(self, job: Job) -> None:
        """The job's turn is over."""
        ...

    def withdraw(self, job: Job) -> None:
        """The job stands in line no longer."""
        ...

    def forget(self, job: Job) -> None:
        """Nothing of the job is left."""
        ...

    def finish(self, job: Job) -> None:
        """Its task ends: `part` and `forget`."""
        ...

    def part(self, job: Job) -> None:
        """The job gives back whatever it holds or waits for."""
        ...

    def readmit(self, job: Job) -> None:
        """Nothing ran: admit it once more."""
        ...

    def count(self, job: Job, answer: Answer) -> None:
        """The job has been answered."""
        ...


class Job(Ticket):
    """One call. Also the `RunningTurn` that user code finds in its task."""

    # No __slots__: class attributes are defaults, so that making one sets only what differs.
    cell: Cell | None = None
    entity: AnyEntity | None = None
    """Whose turn it is; None until it is made."""
    context: EntityContext | None = None
    task: asyncio.Task[None] | None = None
    wake: asyncio.Future[None] | None = None
    ended = False
    gone = False
    """Nothing of it is left but its answer."""
    open = False
    entered = False
    """Its task has taken its first step: one that is cancelled before never does."""
    began = False
    """User code has run."""
    saved = False
    leaving = False
    in_hook = False
    started_ns = 0
    ended_ns = 0
    """When the answer of its last turn was made; 0: not yet."""
    expiry: int | None = None
    """Its place among the deadlines."""
    streaming: ClassVar = False
    _turn: Turn | None = None

    def __init__(
        self, home: Household, method: HostedMethod, call: EntityCall, on_end: OnEnd
    ) -> None:
        self.exclusive = not method.contract.read_only
        self.standing = Standing.OUT
        self.home = home
        self.method = method
        self.call = call
        self.on_end = on_end

    # What the host tells it.

    async def run(self) -> None:
        """Be the body of its task."""
        raise NotImplementedError

    def granted(self) -> None:
        """It holds the entity: begin, or go on."""
        if self.wake is not None:
            if not self.wake.done():
                self.wake.set_result(None)
        elif not self.home.rt.stopping:  # else the host answers it when it has stopped
            self.task = self.home.rt.spawn(self.run())

    def end(self, answer: Answer) -> None:
        """Answer the caller, once."""
        if not self.ended:
            self.ended = True
            self.home.count(self, answer)
            self.on_end(answer)

    def expire(self) -> None:
        """Its deadline has come."""
        self.expiry = None
        self.stop(Reason.DEADLINE, "the deadline passed")

    def stop(self, reason: Reason, message: str) -> None:
        """End it for a reason of ours, whatever it is doing."""
        if self.ended:
            return
        where = "while it ran" if self.began else "before it began; nothing ran"
        self.end(failed(CallError(reason, f"{message} {where}"), started=self.began))
        self.cancel()

    def cancel(self) -> None:
        """Nobody waits for it any more (it has ended): stop what there is of it."""
        if self.task is None:
            self.home.part(self)
            self.home.forget(self)
        elif self.entered:
            self.task.cancel()
        # else its task sees at its first step that it has ended

    def abandon(self) -> None:
        """The caller is gone: what has not begun never will; a turn that has goes on."""
        if self.task is not None:
            self.on_end = _nobody
        elif not self.ended:
            self.ended = True
            self.cancel()

    # Around its turns.

    @property
    def shard(self) -> Shard:
        assert self.cell is not None
        return self.cell.shard

    def may_begin(self) -> Failed | NotHere | None:
        """Check everything that a turn needs; None if it may begin, `started_ns` then is set."""
        rt, call = self.home.rt, self.call
        self.started_ns = now_ns = rt.clock.now_ns()
        self._turn = None
        if call.deadline_ns is not None and call.deadline_ns <= now_ns:
            message = "the deadline passed before the call began; nothing ran"
            return failed(CallError(Reason.DEADLINE, message))
        if not self.owned(now_ns):
            return NotHere(rt.region.generation(call.type, call.shard))
        return None

    def owned(self, now_ns: int) -> bool:
        """The reply gate: the shard is still ours, under the lease it was given for."""
        assert self.cell is not None
        shard = self.cell.shard
        return shard.lease.valid(now_ns) and shard.ours(self.call.type, self.home.rt.region)

    def parse(self) -> Message:
        """The request; raises `CallError`."""
        try:
            return self.method.request.FromString(self.call.request)
        except DecodeError as error:
            name = self.method.request.DESCRIPTOR.full_name
            message = f"the request is no {name}: {error}; nothing ran"
            raise CallError(Reason.BAD_REQUEST, message) from None

    def serialise(self, reply: object) -> bytes:
        """A reply or item; raises `TypeError` or `CallError`."""
        response = self.method.response
        if not isinstance(reply, response):
            verb = "yielded" if self.method.stream else "returned"
            raise WrongReply(
                f"{self.call.method} {verb} {type(reply).__name__}, expected"
                f" {response.DESCRIPTOR.full_name}"
            )
        data = reply.SerializeToString()
        limit = self.home.rt.limits.max_message_bytes
        if len(data) > limit:
            raise CallError(
                Reason.TOO_LARGE,
                f"the reply of {self.call.method} has {len(data)} bytes, more than"
                f" SEEDBED_MAX_MESSAGE_BYTES ({limit}); do not retry",
            )
        return data

    def commit(self) -> None:
        """The turn succeeded: what its plain calls asked for takes effect."""
        cell = self.cell
        if self.saved and not self.ended and cell is not None and cell.entity is not None:
            cell.entity.seedbed_seq += 1
            if cell.watchers:
                watchers, cell.watchers = cell.watchers, None
                for job in watchers:
                    job.granted()
        self.saved = False

    def failure(self, error: BaseException) -> Answer:
        """What answers a turn that raised; its plain calls are dropped."""
        self.saved = self.leaving = False
        if isinstance(error, KeyboardInterrupt):
            raise error
        if isinstance(error, asyncio.CancelledError) and (self.ended or self.home.rt.stopping):
            # Who still waits while the host itself stops learns that the call may have run.
            return failed(CallError(Reason.FENCED, "the worker stops"), started=True)
        return failure(error, self.call, self.context, started=self.began)

    def gated(self, answer: Answer) -> Answer:
        """The answer, if it may leave: it was made from memory that must still be ours."""
        if not self.began:
            return answer
        self.ended_ns = now_ns = self.home.rt.clock.now_ns()
        if not self.ended and not self.owned(now_ns):
            message = "the shard was lost while the call ran"
            return failed(CallError(Reason.FENCED, message), started=True)
        if isinstance(answer, Failed):
            return replace(answer, epoch=self.shard.epoch)
        return answer

    # What user code asks of its turn.

    @property
    def read_only(self) -> bool:
        return not self.exclusive

    def turn(self) -> Turn:
        turn = self._turn
        if turn is None:
            turn = self._turn = self._describe()
        return turn

    def forget_turn(self) -> None:
        """Another turn begins: `turn()` describes it anew."""
        self._turn = None

    def save(self) -> None:
        self.saved = True

    def passivate(self) -> None:
        self.leaving = True

    def changes(self, after: int) -> AsyncIterator[int]:
        raise RuntimeError("changes(): not in a hook; use it in a server-streaming method")

    def _describe(self) -> Turn:
        rt, call, shard = self.home.rt, self.call, self.shard
        ago_ns = rt.clock.now_ns() - self.started_ns
        now = _EPOCH + timedelta(milliseconds=rt.clock.wall_ms(), microseconds=-ago_ns // 1000)
        if not call.request_id:
            call.request_id = rt.request_ids.mint()
        deadline: datetime | None = None
        if call.deadline_ns is not None:
            deadline = now + timedelta(microseconds=(call.deadline_ns - self.started_ns) // 1000)
        return Turn(
            entity_type=call.type,
            shard=shard.number,
            epoch=shard.epoch,
            worker=rt.node_id,
            request_id="" if self.in_hook else call.request_id,
            caller="" if self.in_hook else call.caller,
            deadline=deadline,
            now=now,
            read_only=self.read_only,
        )


def _nobody(answer: Answer) -> None:
    """Nobody waits any more."""
