"""What a call needs of the home of its entity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from seedbed.entity import AnyEntity
from seedbed_worker.cells import Cell
from seedbed_worker.commits import Commits
from seedbed_worker.hosted import HostedClass
from seedbed_worker.runtime import CallCounter, Runtime

if TYPE_CHECKING:
    from seedbed_worker.jobs import Job  # a job has a household
    from seedbed_worker.repeats import Repeats  # it repeats jobs


class Household(Protocol):
    """The entities of one type."""

    @property
    def rt(self) -> Runtime: ...

    @property
    def hosted(self) -> HostedClass: ...

    @property
    def commits(self) -> Commits: ...

    @property
    def repeats(self) -> Repeats | None:
        """None for a volatile class, which remembers nothing."""
        ...

    @property
    def counters(self) -> Mapping[str, CallCounter]:
        """Of the class's methods, by path."""
        ...

    async def activate(self, job: Job, cell: Cell) -> AnyEntity:
        """Make the cell's entity; the job holds it alone."""
        ...

    def enter(self, cell: Cell, job: Job) -> bool:
        """Stand in line; True if the job may begin at once."""
        ...

    def leave(self, job: Job) -> None:
        """The job's turn is over."""
        ...

    def forget(self, job: Job) -> None:
        """Nothing of the job is left."""
        ...

    def finish(self, job: Job) -> None:
        """Its task ends: `part`, and `forget` unless its answer is held."""
        ...

    def part(self, job: Job) -> None:
        """The job gives back whatever it holds or waits for."""
        ...

    def readmit(self, job: Job) -> None:
        """Nothing ran: admit it once more."""
        ...

    def discard(self, cell: Cell) -> None:
        """What the entity has in memory counts no more: its next life begins."""
        ...
