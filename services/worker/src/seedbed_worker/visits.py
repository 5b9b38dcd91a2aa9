"""A call that is in a turn at times: how it leaves one and enters another, and waits for changes.

Between two turns a stream (or a call that waits for a change) is a guest: it holds nothing, but
keeps the entity's cell, so that a move or a passivation finds it and ends it with `MOVING`. A call
in a block of `outside()` is more than that: see `absence`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from seedbed.calls import NotHere
from seedbed.errors import CallError, Reason
from seedbed_worker.cells import Cell
from seedbed_worker.jobs import Job


class Visit(Job):
    """A call that may leave its turn."""

    __slots__ = ()

    def changes(self, after: int) -> AsyncIterator[int]:
        """See `Entity.changes`."""
        self._require_reading()
        return Changes(self, after)

    def move(self) -> None:
        """The entity leaves this worker or its memory. (A unary call, which only reads, is
        repeated by its router.)"""
        if not self.streaming:
            self.stop(Reason.FENCED, "the entity left")
            return
        self.stop(Reason.MOVING, "the entity left; open the stream again: it was ended")

    def leave_turn(self) -> None:
        """End the turn. What is awaited until `enter_turn` holds nothing."""
        cell = self._cell()
        if cell.guests is None:
            cell.guests = set()
        cell.guests.add(self)
        self.open = False
        self.home.leave(self)

    async def enter_turn(self) -> None:
        """Begin another turn, in its order. Raises `CallError` if the entity is not here now."""
        cell = self._cell()
        self.require_home()
        await self.stand_in_line()
        if cell.guests is not None:
            cell.guests.discard(self)
        refusal = self.may_begin()
        if isinstance(refusal, NotHere):
            raise moved()
        if refusal is not None:
            raise CallError(Reason.DEADLINE, refusal.message)
        self.open = True

    async def stand_in_line(self) -> None:
        """Take the entity again, in order."""
        cell = self._cell()
        self.wake = asyncio.get_running_loop().create_future()
        if not self.home.enter(cell, self):
            await self.wake
        cell.holder = self

    async def away_until(self, wake: asyncio.Future[None]) -> None:
        """Leave the turn until `wake` is done, then enter another."""
        self.leave_turn()
        await wake
        await self.enter_turn()

    def require_home(self) -> None:
        """Raise `CallError` if the entity's life is over, or is about to be."""
        cell = self._cell()
        if cell.dead or cell.departing or cell.shard.exit is not None:
            raise moved()

    async def next_change(self, after: int, *, at_once: bool) -> int:
        """Wait for a `seq` above `after`; `at_once`: the present one, whatever it is."""
        self._require_reading()
        assert self.entity is not None
        cell = self._cell()
        while not at_once and self.entity.seedbed_seq <= after:
            self.require_home()
            self.wake = asyncio.get_running_loop().create_future()
            if cell.watchers is None:
                cell.watchers = []
            cell.watchers.append(self)
            await self.away_until(self.wake)
        return self.entity.seedbed_seq

    def require_own_turn(self, name: str) -> Cell:
        """Raise `RuntimeError` unless the method itself asks, in its turn."""
        if not self.open:
            raise RuntimeError(f"{name}: its turn is over")
        if asyncio.current_task() is not self.task:
            raise RuntimeError(
                f"{name}: use it in the method's own task, not in one that the method has started"
            )
        return self._cell()

    def _require_reading(self) -> None:
        self.require_own_turn("changes()")
        if not self.read_only:
            raise RuntimeError(
                "changes() in a turn that may change things would wait for itself: use it in a"
                " server-streaming method, or in one declared NO_SIDE_EFFECTS"
            )

    def _cell(self) -> Cell:
        assert self.cell is not None
        return self.cell


class Changes:
    """The iterator of `Entity.changes`: no generator, so that nobody has to close it."""

    __slots__ = ("_after", "_first", "_visit")

    def __init__(self, visit: Visit, after: int) -> None:
        self._visit = visit
        self._after = after
        self._first = not visit.home.hosted.durable

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> int:
        first, self._first = self._first, False
        self._after = await self._visit.next_change(self._after, at_once=first)
        return self._after


def moved() -> CallError:
    return CallError(Reason.MOVING, "the entity moves: open the stream again")
