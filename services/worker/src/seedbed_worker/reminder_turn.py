"""A reminder's turn: one, or several around blocks of `outside()`, and nobody who waits for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.empty_pb2 import Empty

from seedbed.calls import EntityCall, NotHere, Replied
from seedbed.contract import MethodContract
from seedbed.entity import AnyEntity
from seedbed.errors import CallError, Reason
from seedbed.keys import KeyKind, KeyPath
from seedbed.request_ids import reminder_id
from seedbed.turn import CURRENT, Reminder
from seedbed_worker.absence import Absence
from seedbed_worker.core.reminders import Listed, Place, Times, following, times
from seedbed_worker.hosted import HostedMethod
from seedbed_worker.household import Household
from seedbed_worker.jobs import Answer, OnEnd
from seedbed_worker.journal.port import ReminderChange
from seedbed_worker.reminding import Asked, ask
from seedbed_worker.visits import Visit

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ReminderTurn(Visit):
    """One attempt. It ends with `NotHere` if nothing ran, since the reminder stands no more or is
    another worker's."""

    __slots__ = ("_listed", "_stands")

    def __init__(
        self,
        home: Household,
        listed: Listed,
        stands: Callable[[Listed], bool],
        deadline_ns: int,
        on_end: OnEnd,
    ) -> None:
        """`stands` says whether the appointment still is the newest of its place."""
        place = listed.place
        number = str(listed.appointment.number)
        call = EntityCall(
            method=f"{place.type}: {place.method}()",
            type=place.type,
            key=place.key,
            shard=place.shard,
            request=b"",
            deadline_ns=deadline_ns,
            request_id=reminder_id(place.type, place.key, place.method, place.name, number),
        )
        super().__init__(home, _hosted(place.method), call, on_end)
        self._listed = listed
        self._stands = stands

    async def run(self) -> None:
        CURRENT.set(self)
        home = self.home
        answer: Answer | None = None
        try:
            answer = self.may_begin()
            if answer is None and not (self.shard.lease.attached and self._stands(self._listed)):
                answer = self._nothing_ran()
            if answer is None and not self.ended:
                assert self.cell is not None
                entity = self.cell.entity or await home.activate(self, self.cell)
                if self._stands(self._listed):
                    self.entity = entity
                    answer = await self._call(entity)
                else:  # `activated()` has taken it back
                    answer = self._nothing_ran()
        except BaseException as error:
            self.open = False
            answer = self.failure(error)
            await home.commits.undo(self)
        if answer is not None:
            under_way = home.commits.under_way
            if self.began and not self.ended and self.call.key in under_way:
                self.hold(answer, under_way[self.call.key])
            else:
                self.settle(answer)
        home.finish(self)

    async def _call(self, entity: AnyEntity) -> Answer:
        place, appointment = self._listed
        method = getattr(entity, place.method, None)
        if method is None:
            raise CallError(
                Reason.UNKNOWN_METHOD,
                f"{type(entity).__qualname__} has no method {place.method}: a reminder of it is"
                " stored, so let the method stay until none is",
            )
        done = times(appointment, self.home.rt.clock.wall_ms())
        due = _EPOCH + timedelta(milliseconds=done.due_ms)
        self.began = self.open = True
        await method(Reminder(place.name, due, done.count))
        self.open = False
        if self.absence is not None and self.absence.failure is not None:
            raise self.absence.failure
        self._make_next_appointment(place, done)
        answer = Replied(b"", self.shard.epoch)
        self.home.commits.keep(self, answer)
        return answer

    def _make_next_appointment(self, place: Place, done: Times) -> None:
        """In the record of what the turn has changed: unless somebody has decided otherwise."""
        asked = self.reminders or {}
        if (place.method, place.name) in asked or not self._stands(self._listed):
            return
        appointment = self._listed.appointment
        next_ = following(appointment, done, 0)
        durable = not appointment.in_memory
        if next_ is None:
            own = Asked(durable, drops=True)
        else:
            own = Asked(durable, next_.due_ms, next_.every_ms, next_.count)
        ask(self, place.method, place.name, own)

    def attempt_ms(self) -> int | None:
        """The time of the first attempt, which goes on record before a call of it leaves."""
        place, appointment = self._listed
        if appointment.in_memory:
            return None
        if not appointment.begun_ms and self._stands(self._listed):
            rt = self.home.rt
            ago_ms = (rt.clock.now_ns() - self.started_ns) // 1_000_000
            begun = replace(appointment, begun_ms=rt.clock.wall_ms() - ago_ms)
            note = ReminderChange(place.method, place.name, begun)
            commit = self.home.commits.note(self, note)
            rt.reminders.begun(self.shard, place, begun, commit)
            self._listed = Listed(place, begun)
        return self._listed.appointment.begun_ms or None

    def outside(self) -> AbstractAsyncContextManager[None]:
        if self.in_hook:
            return super().outside()
        return Absence(self)

    def _nothing_ran(self) -> NotHere:
        return NotHere(self.home.rt.region.generation(self.call.type, self.call.shard))


def _hosted(method: str) -> HostedMethod:
    """A method that is no RPC."""
    key = KeyPath((1,), KeyKind.STRING, presence=False)
    contract = MethodContract(
        f"{method}()", "", key, server_streaming=False, repeatable=False, read_only=False
    )
    return HostedMethod(contract, Empty, Empty)
