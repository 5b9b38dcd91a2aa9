"""A rolling update: workers of another version take the place of all there are, one by one.

With a surge the new one is up before the old one drains; without, the old one leaves first.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.simulation.kernel import MS, Violation

if TYPE_CHECKING:  # a world has its updates
    from tests.simulation.worker import SimWorker
    from tests.simulation.world import World

_LOOK_NS = 100 * MS


class Rollout:
    """One update, to its end; `undo` goes back in the middle of it."""

    def __init__(self, world: World, version: str, *, surge: bool) -> None:
        self.version = version
        self.over = False
        self._world = world
        self._surge = surge
        self._before = world.version
        self._first_move = len(world.movements.moves)
        self._most = 1 if surge else 2
        """Moves of a shard; without a surge those moved twice that went before a new one came."""

    def begin(self) -> None:
        """Replace the first."""
        self._world.version = self.version
        self._world.kernel.log(f"-- update to {self.version}")
        self._next()

    def undo(self) -> None:
        """The version before takes the place of all that are new: an update of its own."""
        if not self.over:
            self._world.kernel.log(f"-- back to {self._before}")
            self.version, self._before = self._before, self.version
            self._world.version = self.version
            self._first_move = len(self._world.movements.moves)
            self._most = 2
            """What is on its way by now comes to one that is new, and goes back."""

    def _next(self) -> None:
        old = self._old()
        if not old:
            self.over = True
            self._world.kernel.log(f"-- all have {self.version}")
            if self._world.only_updates:
                self._check_moves()
        elif self._surge:
            new = self._world.add_worker(self.version)
            self._await(new)
        else:
            self._retire(old[0])

    def _await(self, new: SimWorker) -> None:
        """Until it is up, or not there any more; then an old one may go."""
        if self._world.is_up(new) or not new.alive:
            old = self._old()
            if self._surge and old:
                self._retire(old[0])
            else:
                self._next()
        else:
            self._world.kernel.after(_LOOK_NS, None, lambda: self._await(new))

    def _retire(self, old: SimWorker) -> None:
        self._world.retire(old, lambda: self._retired(old))

    def _retired(self, old: SimWorker) -> None:
        if self._surge:
            self._next()
        else:
            self._await(self._world.add_worker(self.version))

    def _old(self) -> list[SimWorker]:
        return [worker for worker in self._world.workers if worker.version != self.version]

    def _check_moves(self) -> None:
        moves = self._world.movements.moves[self._first_move :]
        for place, count in Counter(move.place for move in moves).items():
            if count > self._most:
                raise Violation(f"{place} moved {count} times in one update")
