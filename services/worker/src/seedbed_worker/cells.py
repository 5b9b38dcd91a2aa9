"""A shard while this worker owns it, and an entity while it is busy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seedbed.entity import AnyEntity
from seedbed.ids import Epoch, Incarnation
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.mailbox import Mailbox
from seedbed_worker.core.region import Region, View

if TYPE_CHECKING:
    from seedbed_worker.jobs import Job  # a cell holds jobs, and a job its cell


class Shard:
    """One ownership of a shard: lost once, lost for ever."""

    __slots__ = (
        "__weakref__", "calls", "epoch", "exit", "incarnation", "lease", "lost", "number", "view",
    )  # fmt: skip

    def __init__(self, number: int, epoch: Epoch, lease: Lease) -> None:
        self.number = number
        self.epoch = epoch
        self.incarnation: Incarnation = lease.incarnation
        self.lease = lease
        self.lost = False
        self.calls = 0
        """That stood in line so far."""
        self.exit: Exit | None = None
        """Set once it is being handed off, be it to nobody: what of it is left."""
        self.view: View | None = None
        """By this view of the region it was ours: as long as there is no other, it still is."""

    def serves(self, now_ns: int, type_: str, region: Region) -> bool:
        """It is ours by the newest tables, under the lease it was given for: turns may begin on
        it, and answers leave."""
        if self.lost or not self.lease.valid(now_ns):
            return False
        view = region.view
        if view is not self.view:
            if not region.may_reply(self.incarnation, type_, self.number, self.epoch):
                return False
            until_ns = region.limit_ns(type_, self.number)
            if until_ns is None:
                self.view = view
            elif until_ns <= now_ns:
                return False
        return self.incarnation != region.fenced


class Exit:
    """What is left of a shard in hand-off: its calls, and its entities in memory."""

    __slots__ = ("entities", "jobs")

    def __init__(self) -> None:
        self.jobs: set[Job] = set()
        self.entities: set[str] = set()

    def ended(self, job: Job) -> None:
        """A call of the shard is over."""
        self.jobs.discard(job)
        self.changed()

    def removed(self, key: str) -> None:
        """An entity of the shard is out of memory."""
        self.entities.discard(key)
        self.changed()

    def changed(self) -> None:
        """There is less of it."""
        raise NotImplementedError


class Cell(Mailbox["Job"]):
    """A busy entity: one life of it, from its first call in line to the last.

    It is there while calls run or wait, streams are open or the entity leaves; an idle entity has
    none. `entity` is None until it is made. `dead` means that the life is over (or never began):
    what still holds the cell must not touch the host's tables any more.
    """

    __slots__ = (
        "dead", "departing", "entity", "guests", "holder", "key", "leave_later", "roaming", "shard",
        "watchers",
    )  # fmt: skip

    def __init__(self, key: str, shard: Shard, entity: AnyEntity | None) -> None:
        self._holders = 0  # as Mailbox does: a call less for each of ours
        self._waiting = None
        self.key = key
        self.shard = shard
        self.entity = entity
        self.departing = False
        self.leave_later = False
        """It leaves memory when no call of it is outside any more."""
        self.dead = False
        self.holder: Job | None = None
        """Who was the last to wait in its turn: whoever waits behind it may say so."""
        self.roaming = 0
        """Calls that have been outside their turns, and have not ended."""
        self.guests: set[Job] | None = None
        """Calls between two of their turns."""
        self.watchers: list[Job] | None = None
        """Those of them that wait for a change."""

    def tell_watchers(self) -> None:
        """Something has changed, and is kept."""
        if self.watchers:
            watchers, self.watchers = self.watchers, None
            for watcher in watchers:
                watcher.granted()
