"""Who may run on one entity now, and who waits: order and bounds.

Theory. A ticket asks for the entity alone (a turn that may change things) or with others (a
read-only turn). Tickets begin in the order in which they came: readers next to each other run
together, and nobody overtakes a waiting writer, so nobody starves. A ticket that has left may enter
again (a stream between two items, a call around `outside`) and stands at the end of the line then.

    OUT ── enter ──> HOLDING ── leave ──> OUT
     └─── enter ──> WAITING ── (others leave or withdraw) ──> HOLDING
                       └────── withdraw, take_waiting ──────> OUT

A mailbox exists only while its entity is busy: an idle entity has no queue, lock or task.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Generic, TypeVar


class Standing(Enum):
    OUT = 0
    WAITING = 1
    HOLDING = 2


OUT, WAITING, HOLDING = Standing.OUT, Standing.WAITING, Standing.HOLDING
"""Module names, since an enum's members cost a look-up each on the call path."""


class Ticket:
    """What stands in line. The shell derives its calls from it."""

    __slots__ = ("exclusive", "standing")

    def __init__(self, *, exclusive: bool) -> None:
        self.exclusive = exclusive
        self.standing = OUT


T = TypeVar("T", bound=Ticket)

_ALONE = -1


class Mailbox(Generic[T]):
    """The tickets of one entity. What may begin now is returned, oldest first."""

    __slots__ = ("_holders", "_waiting")

    def __init__(self) -> None:
        self._holders = 0
        self._waiting: deque[T] | None = None

    @property
    def held(self) -> bool:
        """Somebody runs."""
        return self._holders != 0

    @property
    def size(self) -> int:
        """Tickets that run or wait."""
        holders = 1 if self._holders == _ALONE else self._holders
        return holders + (len(self._waiting) if self._waiting else 0)

    def enter(self, ticket: T, *, first: bool = False) -> bool:
        """Begin now (True) or stand in line; `first` stands before all others that wait."""
        if ticket.standing is not OUT:
            raise ValueError(f"a ticket that is {ticket.standing.name} cannot enter")
        holders = self._holders
        waiting = self._waiting
        if first or not waiting:
            if holders == 0 or (holders > 0 and not ticket.exclusive):
                self._holders = _ALONE if ticket.exclusive else holders + 1
                ticket.standing = HOLDING
                return True
            if waiting is None:
                waiting = self._waiting = deque()
        if first:
            waiting.appendleft(ticket)
        else:
            waiting.append(ticket)
        ticket.standing = WAITING
        return False

    def leave(self, ticket: T) -> list[T]:
        """Its turn is over."""
        if ticket.standing is not HOLDING:
            raise ValueError(f"a ticket that is {ticket.standing.name} cannot leave")
        ticket.standing = OUT
        self._holders = 0 if ticket.exclusive else self._holders - 1
        return self._begin() if self._waiting else []

    def withdraw(self, ticket: T) -> list[T]:
        """It no longer waits; this may let others begin that stood behind it."""
        if ticket.standing is not WAITING or self._waiting is None:
            raise ValueError(f"a ticket that is {ticket.standing.name} cannot withdraw")
        self._waiting.remove(ticket)
        ticket.standing = OUT
        return self._begin()

    def share(self, ticket: T) -> list[T]:
        """It held the entity alone and goes on as a reader."""
        if ticket.standing is not HOLDING or not ticket.exclusive:
            raise ValueError("only a ticket that holds alone can share")
        ticket.exclusive = False
        self._holders = 1
        return self._begin() if self._waiting else []

    def take_waiting(self) -> list[T]:
        """Take all out that wait, in order; they stand in line elsewhere then."""
        waiting = list(self._waiting or ())
        self._waiting = None
        for ticket in waiting:
            ticket.standing = OUT
        return waiting

    def _begin(self) -> list[T]:
        begun: list[T] = []
        waiting = self._waiting
        while waiting:
            ticket = waiting[0]
            if ticket.exclusive:
                if self._holders != 0:
                    break
                self._holders = _ALONE
            elif self._holders == _ALONE:
                break
            else:
                self._holders += 1
            ticket.standing = HOLDING
            begun.append(waiting.popleft())
        return begun
