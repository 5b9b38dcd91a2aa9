"""Flights and time: which wait for an owner, which for an answer, and what ends those waits.

Everything runs off one timer that ticks only while something can fall due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from seedbed.deadlines import TICK_NS, Deadlines
from seedbed.decision import too_late
from seedbed.errors import CallError, Reason
from seedbed.flights import GRACE_NS, Flight
from seedbed.parking import Parking, ParkingLimits

LEAD_NS: Final = 100_000_000
"""A call that waits is answered this long before its deadline (or a tenth of what is left), so
that the caller sees why, and not only its own timer."""

_NS: Final = 1e9


class Outlook(Protocol):
    """What a router is told about shards without a reachable owner."""

    def available_in_s(self, type: str, shard: int) -> float | None:  # noqa: A002
        """When the shard is expected to have an owner; None: not known."""
        ...

    def back_within_s(self, type: str, shard: int) -> float:  # noqa: A002
        """So long the one that it has may be back by itself, in spite of that; 0: it is not
        expected any more."""
        ...


class Waits:
    """The waiting room and the clock of one router."""

    def __init__(
        self, parking: ParkingLimits, *, now_ns: Callable[[], int], outlook: Outlook | None
    ) -> None:
        self.without_workers: frozenset[str] = frozenset()
        self._now_ns = now_ns
        self._outlook = outlook
        self._parking = Parking[Flight](parking)
        self._deadlines = Deadlines[Flight]()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def parked(self) -> int:
        """Calls that wait for an owner."""
        return len(self._parking)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def stop(self) -> None:
        """End what waits; nothing waits from now on."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
        for type_, shard in self._parking.shards():
            for flight in self._parking.release(type_, shard):
                flight.refuse(_closing())

    def park(self, flight: Flight) -> None:
        """Let a flight wait for an owner, or end it: no room, or known to be in vain."""
        call = flight.call
        if self._loop is None:
            flight.refuse(_closing())
            return
        due_ns: int | None = None
        if call.deadline_ns is not None:
            left_ns = call.deadline_ns - self._now_ns()
            due_ns = call.deadline_ns - max(0, min(LEAD_NS, left_ns // 10))
            wait_s = self._available_in_s(flight)
            if self._outlook is not None and wait_s is not None and wait_s * _NS > left_ns:
                back_s = self._outlook.back_within_s(call.type, call.shard)
                if not back_s:
                    flight.waited(workers=self._has_workers(flight), retry_after_s=wait_s)
                    return
                due_ns = min(due_ns, self._now_ns() + int(back_s * _NS))
        try:
            self._parking.enter(
                call.type,
                call.shard,
                flight,
                size=len(call.request),
                due_ns=due_ns,
                order=flight.came,
            )
        except CallError as error:
            flight.refuse(error)
            return
        if due_ns is not None:
            self._arm()

    def shards(self) -> list[tuple[str, int]]:
        """Shards for which something waits."""
        return self._parking.shards()

    def waits_for(self, type_: str, shard: int) -> bool:
        """Something waits for this shard."""
        return self._parking.waits_for(type_, shard)

    def release(self, type_: str, shard: int) -> list[Flight]:
        """All that wait for a shard, in the order in which they came to the router; they wait no
        more."""
        return self._parking.release(type_, shard)

    def leave(self, flight: Flight) -> None:
        """Its caller has gone."""
        self._parking.leave(flight)

    def watch(self, flight: Flight, at_ns: int) -> None:
        """Look at a flight that is on its way again at this time."""
        if flight.tick:
            self._deadlines.discard(flight.tick, flight)
        flight.tick = self._deadlines.add(at_ns, flight)
        if self._timer is None:
            self._arm()

    def retire(self, flight: Flight) -> None:
        """Its attempt is over: it has no deadline here, and no batch takes it along."""
        flight.id = 0
        if flight.tick:
            self._deadlines.discard(flight.tick, flight)
            flight.tick = 0

    def next_due_ns(self) -> int | None:
        """When `tick` has something to do next; None while there is nothing."""
        due = [ns for ns in (self._parking.next_ns, self._deadlines.next_ns()) if ns is not None]
        return min(due, default=None)

    def tick(self) -> None:
        """Do what is due by the clock now (the timer calls it; so may the owner of a clock)."""
        if self._timer is not None:
            self._timer.cancel()
        self._tick()

    def _arm(self) -> None:
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(TICK_NS / _NS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now_ns = self._now_ns()
        for flight in self._parking.due(now_ns):
            wait_s = self._available_in_s(flight)
            flight.waited(workers=self._has_workers(flight), retry_after_s=wait_s)
        for flight in self._deadlines.due(now_ns):
            flight.tick = 0
            self._look_at(flight, now_ns)
        if self._deadlines or self._parking.has_deadlines:
            self._arm()

    def _look_at(self, flight: Flight, now_ns: int) -> None:
        deadline_ns = flight.call.deadline_ns
        if deadline_ns is not None and now_ns >= deadline_ns:
            error = too_late(sent=flight.sent or bool(flight.losses))
        elif now_ns >= flight.give_up_ns:
            flight.give_up()
            return
        elif flight.stalled(now_ns):
            error = CallError(Reason.OVERLOADED, "the reader of this stream took nothing for 30 s")
        else:
            if deadline_ns is not None:
                self.watch(flight, deadline_ns + GRACE_NS)
            return
        if flight.link is not None:
            flight.link.drop(flight)
            flight.link = None
        flight.refuse(error)

    def _available_in_s(self, flight: Flight) -> float | None:
        if self._outlook is None:
            return None
        return self._outlook.available_in_s(flight.call.type, flight.call.shard)

    def _has_workers(self, flight: Flight) -> bool:
        return flight.call.type not in self.without_workers


def _closing() -> CallError:
    return CallError(Reason.MOVING, "this router is closing; nothing ran, repeat the call")
