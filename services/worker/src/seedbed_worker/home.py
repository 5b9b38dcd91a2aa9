"""All entities of one type on this worker: who is in memory, who is busy, who comes and goes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from seedbed.calls import EntityCall, Failed, NotHere
from seedbed.entity import AnyEntity
from seedbed.errors import CallError, Reason
from seedbed_worker.activation import Departure, make
from seedbed_worker.cells import Cell, Shard
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.mailbox import Standing
from seedbed_worker.core.passivation import BUSY, Ages
from seedbed_worker.core.region import Admitted
from seedbed_worker.hosted import HostedClass
from seedbed_worker.jobs import Answer, Job
from seedbed_worker.refusals import check_shard, full, wrong_shard
from seedbed_worker.runtime import CallCounter, Runtime
from seedbed_worker.streams import StreamCall
from seedbed_worker.visits import Visit

log = logging.getLogger(__name__)

_HOLDING = Standing.HOLDING


class Home:
    """The entities of one type."""

    def __init__(
        self,
        rt: Runtime,
        hosted: HostedClass,
        *,
        make_room: Callable[[], None],
        readmit: Callable[[Job], None],
    ) -> None:
        self.rt = rt
        self.hosted = hosted
        self.entities: dict[str, AnyEntity] = {}
        self.cells: dict[str, Cell] = {}
        self.shards: dict[int, Shard] = {}
        self.calls: set[Job] = set()
        self.streams: set[Job] = set()
        idle_s = hosted.contract.idle_timeout_s or rt.limits.idle_timeout_s
        self.ages = Ages[AnyEntity](self.entities, int(idle_s * 1e9))
        self._make_room = make_room
        self._readmit = readmit
        self._kind = next(iter(hosted.methods.values())).contract.key.kind
        type_ = hosted.contract.type
        self.counters: dict[str, CallCounter] = {
            path: rt.metrics.calls(type_, method.contract.name)
            for path, method in hosted.methods.items()
        }

    def shard(self, number: int, admitted: Admitted, lease: Lease) -> Shard:
        """The shard as it was admitted; what was under another epoch or lease is lost."""
        shard = self.shards.get(number)
        if shard is None or shard.epoch != admitted.epoch or shard.lease is not lease:
            if shard is not None:
                self.lose([shard])
            shard = self.shards[number] = Shard(number, admitted.epoch, lease)
        return shard

    def accept(self, job: Job, shard: Shard) -> None:
        """Let an admitted call stand in line, within the bounds; raises `CallError`."""
        rt, call, limits = self.rt, job.call, self.rt.limits
        streaming = job.streaming
        jobs = self.streams if streaming else self.calls
        if len(jobs) >= limits.type_calls:
            raise full(f"type {call.type}", "SEEDBED_TYPE_CALLS", limits.type_calls)
        if (rt.streams if streaming else rt.calls) >= limits.worker_calls:
            raise full("this worker", "SEEDBED_WORKER_CALLS", limits.worker_calls)
        cell = self.cells.get(call.key)
        if cell is None:
            cell = self._cell_for(call, shard)
        elif cell.shard is not shard:
            raise wrong_shard(call)
        else:
            size = cell.size + (len(cell.guests) if cell.guests and streaming else 0)
            if size >= limits.mailbox_calls:
                entity = f"this {call.type} entity"
                raise full(entity, "SEEDBED_MAILBOX_CALLS", limits.mailbox_calls)
        jobs.add(job)
        if streaming:
            rt.streams += 1
        else:
            rt.calls += 1
        job.cell = cell
        if call.deadline_ns is not None:
            rt.timers.watch(call.deadline_ns, job)
        if self.enter(cell, job):
            job.granted()

    def enter(self, cell: Cell, job: Job, *, first: bool = False) -> bool:
        """Stand in line; True if the job may begin at once."""
        # The first one makes the entity, alone.
        job.exclusive = not job.method.contract.read_only or (cell.entity is None and not cell.size)
        if not cell.enter(job, first=first):
            return False
        if cell.entity is not None:
            cell.entity.seedbed_since = BUSY
        return True

    def leave(self, job: Job) -> None:
        """The job's turn is over: let others begin, or the entity rest."""
        cell = job.cell
        if cell is None or job.standing is not Standing.HOLDING:
            return
        if cell.entity is None and not cell.dead:  # it was never made; whoever waits tries again
            self._end_life(cell)
        if job.leaving and cell.entity is not None and not cell.dead:
            self.retire(cell.entity)
        job.leaving = False
        begun = cell.leave(job)
        if not cell.dead:
            self._begin(cell, begun)

    def withdraw(self, job: Job) -> None:
        """The job stands in line no longer."""
        cell = job.cell
        if cell is not None and job.standing is Standing.WAITING:
            begun = cell.withdraw(job)
            if not cell.dead:
                self._begin(cell, begun)

    def part(self, job: Job) -> None:
        """The job gives back whatever it holds or waits for."""
        cell = job.cell
        if job.standing is Standing.WAITING:
            self.withdraw(job)
        elif job.standing is Standing.HOLDING:
            self.leave(job)
        elif cell is not None and cell.guests and job in cell.guests:
            cell.guests.discard(job)
            self._begin(cell, [])
        if cell is not None and cell.guests:
            cell.guests.discard(job)

    def count(self, job: Job, answer: Answer) -> None:
        """The job has been answered."""
        counter = self.counters.get(job.call.method)
        if counter is None or isinstance(answer, NotHere):
            return
        code = answer.code if isinstance(answer, Failed) else 0
        if job.streaming:
            counter.ended(code)
        else:
            ended_ns = job.ended_ns or job.started_ns or self.rt.clock.now_ns()
            counter.observe(code, ended_ns - (job.started_ns or ended_ns))

    def finish(self, job: Job) -> None:
        """Its task ends."""
        cell = job.cell
        if (
            job.standing is _HOLDING
            and cell is not None
            and cell.entity is not None
            and not (cell.dead or cell.guests or job.leaving)
        ):  # nothing unusual: what `part` does, in short
            begun = cell.leave(job)
            if begun:
                for other in begun:
                    other.granted()
            elif not cell.held:
                cell.entity.seedbed_since = job.ended_ns or self.rt.clock.now_ns()
                del self.cells[cell.key]
                cell.dead = True
        else:
            self.part(job)
        self.forget(job)

    def forget(self, job: Job) -> None:
        """Nothing of the job is left."""
        rt = self.rt
        if job.expiry is not None:
            rt.timers.discard(job.expiry, job)
        if job in self.calls:
            self.calls.remove(job)
            rt.calls -= 1
            if rt.draining and not rt.calls:
                rt.quiet.set()
        elif job in self.streams:
            self.streams.remove(job)
            rt.streams -= 1
        job.gone = True
        if job.context is not None:
            job.context.end()
        job.task = None  # the task holds the job

    def readmit(self, job: Job) -> None:
        """Nothing ran, since the worker has no seed now: admit it once more when it has."""
        self.leave(job)
        self.forget(job)
        job.entered = job.gone = False
        self._readmit(job)

    async def activate(self, job: Job, cell: Cell) -> AnyEntity:
        """Make the cell's entity; the job holds it alone, and if it only reads shares it then."""
        self._make_room()
        self.rt.live += 1
        try:
            entity = await make(job, self.hosted, cell)
            if job.may_begin() is not None or cell.dead or job.ended:
                raise CallError(Reason.FENCED, "the shard was lost while the entity was made")
        except BaseException:
            self.rt.live -= 1
            raise
        cell.entity = self.entities[cell.key] = entity
        self.ages.add(cell.key, self.rt.clock.now_ns())
        if job.method.contract.read_only:
            self._begin(cell, cell.share(job))
        return entity

    def retire(self, entity: AnyEntity) -> None:
        """Take an entity out of memory once those who run have left; its streams move."""
        cell = self.cells.get(entity.seedbed_key)
        if cell is None:
            if not self.hosted.has_deactivating:
                self._remove(entity.seedbed_key)
                return
            shard = self.shards[_number(entity)]
            cell = self.cells[entity.seedbed_key] = Cell(entity.seedbed_key, shard, entity)
        if cell.departing:
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
            if entity.seedbed_key in self.cells:  # streams keep it
                self.ages.add(entity.seedbed_key, now_ns)
            else:
                self.retire(entity)
        return len(due) == limit

    def lose(self, shards: Iterable[Shard]) -> None:
        """These shards are another's now: forget their entities, stop what runs on them."""
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
            self._lose_job(job)

    def refuse_waiting(self) -> None:
        """Answer all that has not begun with `NotHere`, and move the streams that can."""
        for job in (*self.calls, *self.streams):
            if isinstance(job, Visit) and not job.open:
                if job.task is None:
                    self._refuse(job)
                elif job.began and not job.in_hook:
                    job.move()

    def _lose_job(self, job: Job) -> None:
        if not job.began:
            self._refuse(job)
        elif isinstance(job, StreamCall):
            job.move()
        else:
            job.stop(Reason.FENCED, "the shard was lost")

    def _refuse(self, job: Job) -> None:
        job.end(NotHere(self.rt.region.generation(job.call.type, job.call.shard)))
        job.cancel()

    def _cell_for(self, call: EntityCall, shard: Shard) -> Cell:
        entity = self.entities.get(call.key)
        if entity is None:
            check_shard(self.rt.region, call, self._kind)
        elif entity.seedbed_shard is not shard:
            raise wrong_shard(call)
        cell = self.cells[call.key] = Cell(call.key, shard, entity)
        return cell

    def _begin(self, cell: Cell, jobs: list[Job]) -> None:
        for job in jobs:
            job.granted()
        if not cell.held and not cell.dead and cell.entity is not None:
            cell.entity.seedbed_since = self.rt.clock.now_ns()
            if not cell.guests:
                del self.cells[cell.key]
                cell.dead = True

    def _gone(self, cell: Cell) -> None:
        """The entity has left: whoever came meanwhile begins its next life."""
        if not cell.dead:
            self._remove(cell.key)
            self._end_life(cell)

    def _end_life(self, cell: Cell) -> None:
        cell.dead = True
        del self.cells[cell.key]
        for job in cell.take_waiting():
            if job.ended:
                continue  # its own task cleans up
            if cell.shard.lost:
                self._refuse(job)
                continue
            next_life = self.cells.get(cell.key)
            if next_life is None:
                entity = self.entities.get(cell.key)
                next_life = self.cells[cell.key] = Cell(cell.key, cell.shard, entity)
            job.cell = next_life
            if self.enter(next_life, job):
                job.granted()

    def _remove(self, key: str) -> None:
        if self.entities.pop(key, None) is not None:
            self.rt.live -= 1


def _number(entity: AnyEntity) -> int:
    shard = entity.seedbed_shard
    assert isinstance(shard, Shard)
    return shard.number
