"""A block of `outside()`: a call leaves its turn, and comes back in another.

What the turn has given is kept before the block begins. The entity stays in memory until the call
ends, so that it comes back to where it left; it takes its place in the line as any call does.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

from seedbed.calls import NotHere
from seedbed.errors import CallError, Reason
from seedbed_worker.refusals import lost

if TYPE_CHECKING:
    from seedbed_worker.visits import Visit  # a call that makes its absences


class Absence:
    """One block of a call, the newest."""

    __slots__ = ("_visit", "failure", "first_ns", "ongoing")

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self.ongoing = False
        """From the end of one turn to the beginning of the next."""
        self.failure: BaseException | None = None
        """Why there is no next turn: the call fails with it, whatever its method makes of it."""
        self.first_ns = 0
        """When the call's first turn began."""

    async def __aenter__(self) -> None:
        visit = self._visit
        cell = visit.require_own_turn("outside()")
        before = visit.absence
        if before is None:
            cell.roaming += 1
        self.first_ns = visit.started_ns if before is None else before.first_ns
        visit.absence = self
        visit.open = False
        try:
            visit.home.commits.keep(visit)
            visit.at_store = True
            try:
                await visit.home.commits.kept(cell.key)
            finally:
                visit.at_store = False
            if visit.ended:  # while that was written
                raise asyncio.CancelledError
            rt = visit.home.rt
            if not visit.shard.serves(rt.clock.now_ns(), visit.call.type, rt.region):
                raise lost()
        except BaseException as error:
            self.failure = error
            raise
        if visit.leaving:
            visit.leaving = False
            cell.leave_later = True
        self.ongoing = True
        visit.home.leave(visit)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                await self._come_back()
        except BaseException as failure:
            error = failure
            raise
        finally:
            self.ongoing = False
            self.failure = error

    async def _come_back(self) -> None:
        visit = self._visit
        if visit.ended:  # the block went on after it was stopped
            raise asyncio.CancelledError
        visit.commit = None
        await visit.stand_in_line()
        refusal = visit.may_begin()
        if isinstance(refusal, NotHere):
            raise lost()
        if refusal is not None:
            raise CallError(Reason.DEADLINE, "the deadline passed while it was outside its turn")
        visit.open = True
