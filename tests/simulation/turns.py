"""A simulated worker's loop: who is admitted, turns that take time, and shards that are handed off.

A shard in hand-off is released when no turn of it is left, or at its limit; what still runs then is
cancelled, unless it cannot be: such a turn ends whenever it likes, and must not answer any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from seedbed.ids import Epoch, Generation, Incarnation
from seedbed.routing import Release
from seedbed_worker.core import session_events as ev
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.region import Admitted, EpochAhead, Refused, Wait
from tests.simulation.calls import HANDOFF_NS, TTL_NS, Answer, Answered, Call, Lost, NotHere
from tests.simulation.kernel import MS

if TYPE_CHECKING:  # a worker has its turns
    from tests.simulation.worker import SimWorker

ENDLESS_NS = 3 * TTL_NS
"""Longer than anything is waited for."""


@dataclass(eq=False, slots=True)
class _Waiting:
    call: Call
    epoch: Epoch
    generation: Generation
    from_seed: bool
    answer: Answer


@dataclass(eq=False, slots=True)
class Turn:
    call: Call
    admitted: Admitted
    lease: Lease
    answer: Answer
    count: int = 0
    endless: bool = False
    """Nothing can stop it."""


@dataclass(slots=True)
class _Entity:
    """A shard's memory, as one incarnation has it in one epoch."""

    admitted: Admitted
    count: int = 0


class Turns:
    """Of one life of a worker."""

    def __init__(self, worker: SimWorker) -> None:
        self._worker = worker
        self._kernel = worker.kernel
        self._region = worker.region
        self._entities: dict[tuple[str, int], _Entity] = {}
        self._turns: list[Turn] = []
        self._waiting: list[_Waiting] = []
        self._leaving: dict[tuple[str, int], Epoch] = {}

    @property
    def idle(self) -> bool:
        return not (self._turns or self._waiting)

    def call(
        self, call: Call, epoch: Epoch, generation: Generation, answer: Answer, *, from_seed: bool
    ) -> None:
        """A call has arrived."""
        waiting = _Waiting(call, epoch, generation, from_seed, answer)
        self._consider(waiting)
        if waiting in self._waiting:
            self._in_loop(partial(self._give_up, waiting), TTL_NS)

    def region_changed(self) -> None:
        """There are newer tables, or the lease has a stream again."""
        for (type_, shard), entity in list(self._entities.items()):
            if self._region.owned(type_, shard) != entity.admitted.epoch:
                del self._entities[type_, shard]
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            self._consider(one)
        for (type_, shard), leaving in self._region.view.leaving.items():
            owned = self._region.owned(type_, shard) == leaving.epoch
            if owned and self._leaving.get((type_, shard)) != leaving.epoch:
                self._leave(type_, shard, leaving.epoch)

    def drop_all(self, incarnation: Incarnation) -> None:
        """This incarnation is fenced."""
        self.stop()
        self.region_changed()
        self._kernel.after(
            self._kernel.between(0, MS),
            self._worker.session,
            lambda: self._worker.feed(ev.Dropped(incarnation)),
        )

    def stop(self) -> None:
        """End every turn, and forget everything."""
        self._entities.clear()
        turns, self._turns = self._turns, []
        for turn in turns:
            turn.answer(Lost())

    # Turns.

    def _consider(self, waiting: _Waiting) -> None:
        call, lease = waiting.call, self._worker.core.lease
        admission = self._region.admit(
            call.type, call.shard, waiting.epoch, waiting.generation, from_seed=waiting.from_seed
        )
        known = self._region.generation(call.type, call.shard)
        match admission:
            case Refused(generation):
                waiting.answer(NotHere(generation))
            case Admitted() if not (lease is not None and lease.valid(self._now())):
                waiting.answer(NotHere(known))
            case Admitted() if lease is not None and lease.attached:
                turn = Turn(call, admission, lease, waiting.answer)
                self._turns.append(turn)
                self._later(self._take, turn, self._kernel.between(0, 2 * MS))
            case Admitted() | Wait() | EpochAhead():
                self._waiting.append(waiting)

    def _take(self, turn: Turn) -> None:
        """The turn begins: its effect, and then whatever takes it so long."""
        call, admitted = turn.call, turn.admitted
        if not self.may_begin(turn):
            self._end(turn)
            turn.answer(NotHere(self._region.generation(call.type, call.shard)))
            return
        entity = self._entities.get((call.type, call.shard))
        if entity is None or entity.admitted != admitted:
            entity = self._entities[call.type, call.shard] = _Entity(admitted)
        entity.count += 1
        turn.count = entity.count
        chance = self._kernel.random.random()
        sluggish = self._kernel.now_ns < self._worker.sluggish_until_ns
        if not call.brief and sluggish and chance < 0.5:
            most_ns, turn.endless = ENDLESS_NS, True
        elif call.brief or chance < 0.85:
            most_ns = 5 * MS
        elif self._worker.world.clean:
            most_ns = HANDOFF_NS * 2 // 3
        elif chance < 0.97:
            most_ns = TTL_NS // 2
        else:
            most_ns, turn.endless = ENDLESS_NS, True
        self._later(self._finish, turn, self._kernel.between(0, most_ns))

    def _finish(self, turn: Turn) -> None:
        if self.may_reply(turn):
            self._worker.world.referee.decided(turn.call, turn.admitted.epoch)
            leave = partial(turn.answer, Answered(turn.admitted.epoch, turn.count))
            self._in_loop(leave, self._kernel.between(0, MS))
        else:
            turn.answer(Lost())
        self._end(turn)

    def may_begin(self, turn: Turn) -> bool:
        """The last look before anything of a turn happens."""
        call, admitted = turn.call, turn.admitted
        owned = self._region.owned(call.type, call.shard) == admitted.epoch
        # What has not begun on a shard in hand-off is for the next owner.
        leaving = self._region.limit_ns(call.type, call.shard) is not None
        return owned and turn.lease.valid(self._now()) and not leaving

    def may_reply(self, turn: Turn) -> bool:
        """The last look before an answer that no journal has recorded leaves."""
        call, admitted = turn.call, turn.admitted
        return (
            turn.lease.valid(self._now())
            and self._region.may_reply(admitted.incarnation, call.type, call.shard, admitted.epoch)
            and not self.late(call.type, call.shard)
        )

    def late(self, type_: str, shard: int) -> bool:
        """Is the shard in hand-off, and past its limit?"""
        limit_ns = self._region.limit_ns(type_, shard)
        return limit_ns is not None and limit_ns <= self._now()

    def _end(self, turn: Turn) -> None:
        self._turns.remove(turn)
        call = turn.call
        epoch = self._leaving.get((call.type, call.shard))
        if epoch:
            self._look(call.type, call.shard, epoch)

    # Hand-offs.

    def _leave(self, type_: str, shard: int, epoch: Epoch) -> None:
        """It is in hand-off now."""
        self._leaving[type_, shard] = epoch
        limit_ns = self._region.limit_ns(type_, shard) or 0
        delay_ns = max(0, self._worker.loop.real(limit_ns) - self._kernel.now_ns)
        self._in_loop(partial(self._look, type_, shard, epoch), delay_ns + MS)
        self._look(type_, shard, epoch)

    def _look(self, type_: str, shard: int, epoch: Epoch) -> None:
        """Release the shard if its time has come."""
        if self._leaving.get((type_, shard)) != epoch:
            return
        turns = [t for t in self._turns if (t.call.type, t.call.shard) == (type_, shard)]
        if self._region.owned(type_, shard) != epoch:
            del self._leaving[type_, shard]
            return
        if not self.may_release(turns, late=self.late(type_, shard)):
            return
        del self._leaving[type_, shard]
        self._entities.pop((type_, shard), None)
        self.cancel(turns)
        self._region.release([Release(type_, shard, epoch)])
        self._kernel.log(f"{self._worker.name}: releases {type_}/{shard} of epoch {epoch}")
        self._kernel.after(
            self._kernel.between(0, MS),
            self._worker.session,
            lambda: self._worker.feed(ev.ReleasesChanged()),
        )

    def cancel(self, turns: list[Turn]) -> None:
        """The shard's time is over."""
        for turn in turns:
            if not turn.endless:
                self._turns.remove(turn)
                turn.answer(Lost())

    def may_release(self, turns: list[Turn], *, late: bool) -> bool:
        """Nothing of the shard is left, or it is its limit."""
        return late or not turns

    # Small things.

    def _give_up(self, waiting: _Waiting) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            call = waiting.call
            waiting.answer(NotHere(self._region.generation(call.type, call.shard)))

    def _later(self, step: Callable[[Turn], None], turn: Turn, delay_ns: int) -> None:
        def run() -> None:
            if turn in self._turns:
                step(turn)

        self._in_loop(run, delay_ns)

    def _in_loop(self, action: Callable[[], None], delay_ns: int = 0) -> None:
        self._kernel.after(delay_ns, self._worker.loop, action)

    def _now(self) -> int:
        return self._worker.loop.local(self._kernel.now_ns)
