"""A simulated router: it waits for owners, repeats what did not run, and waits for answers that are
on their way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seedbed.ids import Incarnation
from seedbed.routing import RouteTable
from tests.simulation.calls import ATTEMPTS, Answered, Call, Lost, NotHere, Outcome
from tests.simulation.kernel import MS, SECOND, Process, Violation

if TYPE_CHECKING:  # router and world know one another
    from tests.simulation.world import World

GIVE_UP_NS = SECOND


class SimRouter:
    def __init__(self, world: World, process: Process) -> None:
        self.table = RouteTable()
        self.calls: list[Call] = []
        self._world = world
        self._kernel = world.kernel
        self._process = process
        self._unreachable: frozenset[Incarnation] = frozenset()
        self._lost: frozenset[Incarnation] = frozenset()

    def route(self, call: Call) -> None:
        self.calls.append(call)
        self._try(call)

    def changed(self, unreachable: frozenset[Incarnation]) -> None:
        """The watch has delivered something."""
        self._lost, self._unreachable = self._unreachable, unreachable
        self.calls = [call for call in self.calls if not call.ended]
        for call in self.calls:
            if not call.in_flight:
                self._try(call)
            elif call.epoch < self.table.epoch(call.type, call.shard):
                self._moved(call)

    def _moved(self, call: Call) -> None:
        """An owner answers what it has before it releases a shard, but not if it was lost."""
        attempt = call.attempt

        def give_up() -> None:
            if call.in_flight and call.attempt == attempt:
                self._world.referee.end(call, "outcome unknown: its shard has moved")

        if call.owner in self._unreachable or call.owner in self._lost:
            give_up()
        elif not call.given_up:
            call.given_up = True
            self._kernel.after(GIVE_UP_NS, self._process, give_up)

    def _try(self, call: Call) -> None:
        place = self.table.place(call.type, call.shard)
        if place is None or place.owner is None or place.moving or call.ended:
            return
        if place.generation <= call.blocked:
            return
        if place.owner.incarnation in self._unreachable:
            return
        call.attempt += 1
        if call.attempt > ATTEMPTS:
            raise Violation(f"{call}: a hot loop of refusals")
        call.in_flight, call.used, call.epoch = True, place.generation, place.epoch
        call.owner, call.given_up = place.owner.incarnation, False
        attempt = call.attempt

        def answer(outcome: Outcome) -> None:
            delay_ns = self._kernel.between(MS, 5 * MS)
            delay_ns += self._kernel.held_ns(
                place.owner.node_id if place.owner else "", self._process.name
            )
            self._kernel.after(delay_ns, self._process, lambda: heard(outcome))

        def heard(outcome: Outcome) -> None:
            if not call.ended and call.attempt == attempt and call.in_flight:
                self._answered(call, outcome)

        self._world.network.deliver(self._process.name, place.owner.node_id, call, answer)

    def _answered(self, call: Call, outcome: Outcome) -> None:
        match outcome:
            case Answered(epoch, _):
                if epoch < call.epoch:
                    self._world.referee.end(call, "outcome unknown: the answer is of an old epoch")
                else:
                    self._world.referee.accept(call, outcome)
            case NotHere():
                call.in_flight, call.blocked = False, call.used
                self._try(call)
            case Lost():
                self._world.referee.end(call, "outcome unknown")

    def refused(self, call: Call) -> None:
        """Nobody listens at the owner's address; nothing was sent."""
        call.in_flight, call.blocked = False, call.used
        self._try(call)
