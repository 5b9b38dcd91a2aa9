"""All entities of one type on this worker: who is in memory, who is busy, who comes and goes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from seedbed.calls import Failed
from seedbed.entity import AnyEntity
from seedbed.errors import CallError, Reason
from seedbed.ids import Epoch
from seedbed_worker.activation import Departure, make
from seedbed_worker.cells import Cell, Shard
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.mailbox import HOLDING
from seedbed_worker.core.region import Admitted
from seedbed_worker.entity_store import EntityStore
from seedbed_worker.hosted import HostedClass
from seedbed_worker.jobs import Job
from seedbed_worker.lines import Lines
from seedbed_worker.repeats import Repeats
from seedbed_worker.runtime import Runtime
from seedbed_worker.streams import StreamCall
from seedbed_worker.visits import Visit

log = logging.getLogger(__name__)


class Home(Lines):
    """The entities of one type."""

    def __init__(
        self,
        rt: Runtime,
        hosted: HostedClass,
        *,
        store: EntityStore,
        make_room: Callable[[], None],
        readmit: Callable[[Job], None],
    ) -> None:
        super().__init__(rt, hosted, store)
        if hosted.durable:
            self.repeats = Repeats(self, store)
        self.shards: dict[int, Shard] = {}
        self._make_room = make_room
        self._readmit = readmit

    def shard(self, number: int, admitted: Admitted, lease: Lease) -> Shard:
        """The shard as it was admitted; what was under another epoch or lease is lost."""
        shard = self.shards.get(number)
        if shard is None or shard.epoch != admitted.epoch or shard.lease is not lease:
            if shard is not None:
                self.lose([shard])
            shard = self.shards[number] = Shard(number, admitted.epoch, lease)
        return shard

    def readmit(self, job: Job) -> None:
        """Nothing ran, since the worker has no seed now: admit it once more when it has."""
        self.leave(job)
        self.forget(job)
        job.handed = False
        self._readmit(job)

    async def activate(self, job: Job, cell: Cell) -> AnyEntity:
        """Make the cell's entity; the job holds it alone, and if it only reads shares it then."""
        self._make_room()
        self.rt.live += 1
        try:
            entity = await make(job, cell)
            refusal = job.may_begin()
            if isinstance(refusal, Failed):  # its router would take FENCED for the owner's loss
                raise CallError(Reason.DEADLINE, refusal.message)
            if refusal is not None or cell.dead or job.ended:
                raise CallError(Reason.FENCED, "the shard was lost while the entity was made")
        except BaseException:
            self.rt.live -= 1
            raise
        cell.entity = self.entities[cell.key] = entity
        if cell.shard.exit is not None:  # it leaves with its shard, after this turn
            cell.shard.exit.entities.add(cell.key)
            cell.leave_later = True
        self.ages.add(cell.key, self.rt.clock.now_ns())
        if job.method.contract.read_only:
            self.begin(cell, cell.share(job))
        return entity

    def retire(self, entity: AnyEntity) -> None:
        """Take an entity out of memory once those who run have left; its streams move.

        If calls of it are outside their turns, once those have ended.
        """
        cell = self.cells.get(entity.seedbed_key)
        if cell is None:
            if not self.hosted.has_deactivating:
                self._remove(entity.seedbed_key)
                return
            shard = self.shards[_number(entity)]
            cell = self.cells[entity.seedbed_key] = Cell(entity.seedbed_key, shard, entity)
        if cell.departing:
            return
        if cell.roaming:
            cell.leave_later = True
            return
        cell.departing = True
        for guest in list(cell.guests or ()):
            if isinstance(guest, Visit):
                guest.move()
        departure = Departure(self, cell, self._gone)
        self.calls.add(departure)
        self.rt.calls += 1
        if self.enter(cell, departure, first=True):
            departure.granted()

    def sweep(self, now_ns: int, limit: int) -> bool:
        """Retire what has been idle for too long; True if there may be more."""
        due = self.ages.due(now_ns, limit)
        for entity in due:
            key = entity.seedbed_key
            # Streams keep it, and what is to happen and is in memory only.
            if key in self.cells or self.rt.reminders.keeps(self.hosted.contract.type, key):
                self.ages.add(entity.seedbed_key, now_ns)
            else:
                self.retire(entity)
        return len(due) == limit

    def lose(self, shards: Iterable[Shard], why: CallError | None = None) -> None:
        """These shards are another's now: forget their entities, stop what runs on them.

        `why`: they are ours, but anew; what their calls are answered.
        """
        lost = set(shards)
        for shard in lost:
            shard.lost = True
            if self.shards.get(shard.number) is shard:
                del self.shards[shard.number]
        for cell in [cell for cell in self.cells.values() if cell.shard in lost]:
            cell.dead = True
            del self.cells[cell.key]
        for key in [key for key, one in self.entities.items() if one.seedbed_shard in lost]:
            self._remove(key)
        for job in [job for job in (*self.calls, *self.streams) if job.shard in lost]:
            self._lose_job(job, why)

    def part_with(self, number: int, epoch: Epoch) -> None:
        """A shard of which nothing is left is ours no more."""
        shard = self.shards.get(number)
        if shard is not None and shard.epoch == epoch:
            shard.lost = True
            del self.shards[number]

    def leave_with(self, shards: Iterable[Shard]) -> list[Job]:
        """Note what there is of these shards, which are being handed off, in their `exit`s;
        returns their calls."""
        leaving = set(shards)
        jobs = [job for job in (*self.calls, *self.streams) if job.shard in leaving]
        for job in jobs:
            if job.shard.exit is not None:
                job.shard.exit.jobs.add(job)
        for key, entity in self.entities.items():
            shard = entity.seedbed_shard
            if shard in leaving and isinstance(shard, Shard) and shard.exit is not None:
                shard.exit.entities.add(key)
        return jobs

    def refuse_waiting(self, jobs: Iterable[Job]) -> None:
        """Answer what of these calls has not begun with `NotHere`, and end those between turns."""
        for job in jobs:
            if isinstance(job, Visit) and not job.open:
                if not job.handed:
                    self.refuse_all([job])
                elif (
                    job.began
                    and job.standing is not HOLDING
                    and not job.is_outside
                    and job.held is None
                ):
                    job.move()

    def drop(self, entity: AnyEntity, error: CallError) -> None:
        """What it has in memory was not kept: end with this error what is built on it."""
        key = entity.seedbed_key
        if self.entities.get(key) is not entity:
            return  # it has left already
        cell = self.cells.get(key)
        if cell is None:
            self._remove(key)
            return
        for job in (*self.calls, *self.streams):
            if job.cell is cell and job.standing is HOLDING:
                job.stop(error.reason, error.message)
        self.discard(cell)
        if not cell.held:
            self.end_life(cell)

    def discard(self, cell: Cell) -> None:
        """What the entity has in memory counts no more: its next life begins when the turn that
        holds it leaves."""
        for job in (*self.calls, *self.streams):
            if job.cell is cell and job.began and job.standing is not HOLDING:
                self._lose_job(job)
        self._remove(cell.key)
        cell.entity = None

    def _lose_job(self, job: Job, why: CallError | None = None) -> None:
        if job.held is not None:
            return  # the store knows how it ends
        if not job.began and why is None:
            self.refuse_all([job])
        elif job.began and isinstance(job, StreamCall):
            job.move()
        elif why is not None:
            job.stop(why.reason, why.message)
        else:
            job.stop(Reason.FENCED, "the shard was lost")

    def _gone(self, cell: Cell) -> None:
        """The entity has left: whoever came meanwhile begins its next life."""
        if not cell.dead:
            self._remove(cell.key)
            self.end_life(cell)

    def _remove(self, key: str) -> None:
        entity = self.entities.pop(key, None)
        if self.repeats is not None:
            self.repeats.forget(key)
        if entity is not None:
            self.rt.live -= 1
            shard = entity.seedbed_shard
            if isinstance(shard, Shard) and shard.exit is not None:
                shard.exit.removed(key)


def _number(entity: AnyEntity) -> int:
    shard = entity.seedbed_shard
    assert isinstance(shard, Shard)
    return shard.number
