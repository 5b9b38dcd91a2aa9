"""A call on its way through an entity: what is common to unary calls, streams and hooks.

A job ends for its caller once (`end`), which may be before its task ends: at its deadline and when
its shard is lost, the caller is answered at once and the task is cancelled; the entity stays taken
until the task really is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from google.protobuf.message import DecodeError, Message

from seedbed.adapters import EntityContext
from seedbed.calls import EntityCall, Failed, NotHere, Replied
from seedbed.decision import outcome_unknown
from seedbed.errors import CallError, Reason
from seedbed.status import failed
from seedbed_worker.answers import failure
from seedbed_worker.cells import Cell
from seedbed_worker.core.mailbox import HOLDING, OUT, WAITING
from seedbed_worker.entity_store import Commit
from seedbed_worker.hosted import HostedMethod
from seedbed_worker.household import Household
from seedbed_worker.own_turn import OwnTurn
from seedbed_worker.refusals import lost
from seedbed_worker.runners import Work

if TYPE_CHECKING:
    from seedbed_worker.turn_calls import TurnCalls  # it knows jobs

Answer: TypeAlias = Replied | Failed | NotHere
OnEnd: TypeAlias = Callable[[Answer], object]


class Job(OwnTurn):
    """One call."""

    # With slots: to read a default from the class costs ten times as much as to set all of them.
    __slots__ = (
        "answer", "at_store", "began", "cell", "commit", "context", "ended", "ended_ns", "expiry",
        "handed", "held", "method", "on_end", "onward", "streaming", "task", "wake",
    )  # fmt: skip

    def __init__(
        self, home: Household, method: HostedMethod, call: EntityCall, on_end: OnEnd
    ) -> None:
        self.exclusive = method.exclusive
        self.standing = OUT
        self.home = home
        self.method = method
        self.call = call
        self.on_end = on_end
        self.streaming = False
        self.cell: Cell | None = None
        self.entity = None
        self.context: EntityContext | None = None
        self.handed = False
        """It has been given to a runner, which will run it or finds that it has ended."""
        self.task: asyncio.Task[None] | None = None
        """The task in which it runs; None before the first step and after the last."""
        self.wake: asyncio.Future[None] | None = None
        self.open = False
        self.began = False
        """User code has run."""
        self.in_hook = False
        self.change = None
        self.reminders = None
        self.commit: Commit | None = None
        """What its last turn has changed, on its way into the store."""
        self.held: Commit | None = None
        """Its answer waits for this; all else of it is over."""
        self.leaving = False
        self.at_store = False
        """It waits for the store: not to be cancelled."""
        self.absence = None
        self.ended = False
        self.answer: Answer | None = None
        """What ended it; None too if its caller had gone by then."""
        self.started_ns = 0
        self.ended_ns = 0
        """When the answer of its last turn was made; 0: not yet."""
        self.expiry: int | None = None
        """Its place among the deadlines."""
        self.present = None
        self.onward: TurnCalls | None = None
        """What it calls, from its first call to another entity on."""

    # What the host tells it.

    def run(self) -> Work:
        """What its task does."""
        raise NotImplementedError

    def granted(self) -> None:
        """It holds the entity: begin, or go on."""
        if self.wake is not None:
            if not self.wake.done():
                self.wake.set_result(None)
        elif self.home.rt.running:  # else the host answers it when it has stopped
            self.handed = True
            self.home.rt.runners.add(self)

    def suspended(self) -> None:
        """It waits, in line or in its turn: from now on its deadline is watched."""
        if self.standing is HOLDING and self.cell is not None:
            self.cell.holder = self
        deadline_ns = self.call.deadline_ns
        if deadline_ns is not None and self.expiry is None and not self.ended:
            self.expiry = self.home.rt.timers.add(deadline_ns, self)

    def end(self, answer: Answer) -> None:
        """Answer the caller, once, and count it."""
        if self.ended:
            return
        self.ended = True
        self.answer = answer
        counter = self.home.counters.get(self.call.method)
        if counter is not None and not isinstance(answer, NotHere):
            code = answer.code if isinstance(answer, Failed) else 0
            if self.streaming:
                counter.ended(code)
            else:
                absence = self.absence
                started_ns = self.started_ns if absence is None else absence.first_ns
                counter.observe(code, max(0, self.ended_ns - started_ns))
        self.on_end(answer)

    def expire(self) -> None:
        """Its deadline has come."""
        self.expiry = None
        if self.held is not None:
            message = "the journal has not acknowledged the call's change by the deadline"
            self.end(failed(outcome_unknown(message), started=True))
            return
        self.stop(Reason.DEADLINE, "the deadline passed", self._why_so_long())

    def stop(self, reason: Reason, message: str, why: str = "") -> None:
        """End it for a reason of ours, whatever it is doing."""
        if self.ended:
            return
        where = "while it ran" if self.began else "before it began; nothing ran"
        self.end(failed(CallError(reason, f"{message} {where}{why}"), started=self.began))
        self.cancel()

    def _why_so_long(self) -> str:
        """What it waits for, as the end of a sentence; empty if that is the method's own affair."""
        if self.standing is WAITING and self.cell is not None:
            holder = self.cell.holder
            if holder is not None and holder.standing is HOLDING:
                return f": {holder.in_words()}"
        waits_for = self.waits_for()
        return f": it waited for {waits_for}" if waits_for else ""

    def in_words(self) -> str:
        """What it does with the entity and for how long, for those who wait behind it."""
        if not self.began:
            return "its state is being loaded"
        seconds = (self.home.rt.clock.now_ns() - self.started_ns) / 1e9
        waits_for = self.waits_for()
        behind = f" and waits for {waits_for}" if waits_for else ""
        name = self.hook or self.method.contract.name
        return f"{name} of this entity has run for {seconds:.1f} s{behind}"

    @property
    def hook(self) -> str:
        """The hook that it runs just now; empty if none."""
        return "activated()" if self.in_hook else ""

    def waits_for(self) -> str:
        """The entities that it has called and that have not answered; empty if there are none."""
        return self.onward.waits_for() if self.onward is not None else ""

    def cancel(self) -> None:
        """Nobody waits for it any more (it has ended): stop what there is of it."""
        if not self.handed:
            self.home.part(self)
            self.home.forget(self)
        elif self.task is not None and not self.at_store:
            self.task.cancel()
        # else it sees at its first step that it has ended

    def abandon(self) -> None:
        """The caller is gone: what has not begun never will; a turn that has goes on."""
        if self.handed:
            self.on_end = nobody
        elif not self.ended:
            self.ended = True
            self.cancel()

    # Around its turns.

    def may_begin(self) -> Failed | NotHere | None:
        """Check everything that a turn needs; None if it may begin, `started_ns` then is set."""
        rt, call = self.home.rt, self.call
        self.started_ns = now_ns = rt.clock.now_ns()
        self.present = None
        deadline_ns = call.deadline_ns
        if deadline_ns is not None and deadline_ns <= now_ns:
            message = "the deadline passed before the call began; nothing ran"
            return failed(CallError(Reason.DEADLINE, message))
        if not self.shard.serves(now_ns, call.type, rt.region):
            return NotHere(rt.region.generation(call.type, call.shard))
        return None

    def parse(self) -> Message:
        """The request; raises `CallError`."""
        try:
            return self.method.parse(self.call.request)
        except DecodeError as error:
            name = self.method.request.DESCRIPTOR.full_name
            message = f"the request is no {name}: {error}; nothing ran"
            raise CallError(Reason.BAD_REQUEST, message) from None

    def failure(self, error: BaseException) -> Answer:
        """What answers a turn that raised; its plain calls are dropped."""
        self.change, self.reminders, self.leaving = None, None, False
        if isinstance(error, KeyboardInterrupt):
            raise error
        if isinstance(error, asyncio.CancelledError) and (self.ended or not self.home.rt.running):
            # Who still waits while the host itself stops learns that the call may have run.
            return failed(CallError(Reason.FENCED, "the worker stops"), started=True)
        return failure(
            error,
            self.call,
            self.context,
            started=self.began,
            entity=self.home.hosted.name,
            hook=self.hook,
        )

    def settle(self, answer: Answer) -> None:
        """End with what came of its turn, if that may leave: the memory must still be ours."""
        if self.began:
            rt = self.home.rt
            self.ended_ns = now_ns = rt.clock.now_ns()
            # What is stored is true, whoever owns the shard by now.
            if not (self.ended or self.commit) and not self._is_ours(now_ns):
                answer = failed(lost(), started=True)
            elif isinstance(answer, Failed):
                answer = replace(answer, epoch=self.shard.epoch)
            if self.onward is not None:
                self.onward.turn_ended()
                self.onward = None  # they hold each other
        elif isinstance(answer, Failed) and answer.reason is None:  # the entity was not made
            answer = replace(answer, epoch=self.shard.epoch)
        self.end(answer)

    def hold(self, answer: Answer, commit: Commit) -> None:
        """End with this answer once the commit has: it is the newest that its turn could have
        seen."""
        self.held = commit
        self.task = None
        if self.call.deadline_ns is not None and self.expiry is None:
            self.expiry = self.home.rt.timers.add(self.call.deadline_ns, self)
        commit.then(partial(self._release, answer))

    def _release(self, answer: Answer, commit: Commit) -> None:
        self.held = None
        if commit.error is None:
            self.settle(answer)
        else:
            self.settle(failed(commit.error, started=True))
        self.home.forget(self)

    def _is_ours(self, now_ns: int) -> bool:
        return self.shard.serves(now_ns, self.call.type, self.home.rt.region)

    def attempt_ms(self) -> int | None:
        """When this call was first tried, if that is on record; its own calls carry that time."""
        return None


def nobody(answer: Answer) -> None:
    """Nobody waits any more."""
