"""Who stands in line at which entity, of one type: from a call's arrival to its last trace.

An entity has a cell here while it is busy, and the calls keep their order there. What an idle
entity costs is one look-up.
"""

from __future__ import annotations

from collections.abc import Iterable

from seedbed.calls import NotHere
from seedbed.entity import AnyEntity
from seedbed.errors import CallError
from seedbed_worker.cells import Cell, Shard
from seedbed_worker.commits import Commits
from seedbed_worker.core.mailbox import HOLDING, WAITING
from seedbed_worker.core.passivation import BUSY, Ages
from seedbed_worker.entity_store import EntityStore
from seedbed_worker.hosted import HostedClass
from seedbed_worker.jobs import Job
from seedbed_worker.refusals import check_shard, full, wrong_shard
from seedbed_worker.repeats import Repeats
from seedbed_worker.runtime import CallCounter, Runtime


class Lines:
    """The lines of one type's entities."""

    def __init__(self, rt: Runtime, hosted: HostedClass, store: EntityStore) -> None:
        self.rt = rt
        self.hosted = hosted
        self.commits = Commits(hosted, store, self.drop)
        self.repeats: Repeats | None = None
        self.entities: dict[str, AnyEntity] = {}
        self.cells: dict[str, Cell] = {}
        self.calls: set[Job] = set()
        self.streams: set[Job] = set()
        idle_s = hosted.contract.idle_timeout_s or rt.limits.idle_timeout_s
        self.ages = Ages[AnyEntity](self.entities, int(idle_s * 1e9))
        self._kind = hosted.contract.key_kind
        type_ = hosted.contract.type
        self.counters: dict[str, CallCounter] = {
            path: rt.metrics.calls(type_, method.contract.name)
            for path, method in hosted.methods.items()
        }

    def accept(self, job: Job, shard: Shard) -> bool:
        """Let an admitted call stand in line, within the bounds; True if it may begin at once.

        Raises `CallError`.
        """
        rt, call = self.rt, job.call
        limits = rt.limits
        streaming = job.streaming
        jobs = self.streams if streaming else self.calls
        if len(jobs) >= limits.type_calls:
            raise full(f"type {call.type}", "SEEDBED_TYPE_CALLS", limits.type_calls)
        if (rt.streams if streaming else rt.calls) >= limits.worker_calls:
            raise full("this worker", "SEEDBED_WORKER_CALLS", limits.worker_calls)
        key = call.key
        cell, entity = self.cells.get(key), None
        if cell is None:
            entity = self.entities.get(key)
            if entity is None:
                check_shard(rt.region, call, self._kind)
            elif entity.seedbed_shard is not shard:
                raise wrong_shard(call)
        elif cell.shard is not shard:
            raise wrong_shard(call)
        else:
            # A call that has been outside counts as long as it may come back.
            size = cell.size + cell.roaming
            if cell.guests and streaming:
                size += len(cell.guests)
            if size >= limits.mailbox_calls:
                entity_of = f"this {call.type} entity"
                raise full(entity_of, "SEEDBED_MAILBOX_CALLS", limits.mailbox_calls)
        repeats = self.repeats
        jobs.add(job)
        if streaming:
            rt.streams += 1
        else:
            rt.calls += 1
        shard.calls += 1
        job.shard = shard
        if repeats is not None and job.method.exclusive and call.request_id and repeats.joins(job):
            job.suspended()
            return False
        if cell is None:
            cell = self.cells[key] = Cell(key, shard, entity)
        job.cell = cell
        if self.enter(cell, job):
            return True
        job.suspended()
        return False

    def enter(self, cell: Cell, job: Job, *, first: bool = False) -> bool:
        """Stand in line; True if the job may begin at once."""
        entity = cell.entity
        # The first one makes the entity, alone.
        job.exclusive = job.method.exclusive or (entity is None and not cell.size)
        if not cell.enter(job, first=first):
            return False
        if entity is not None:
            entity.seedbed_since = BUSY
        return True

    def leave(self, job: Job) -> None:
        """The job's turn is over: let others begin, or the entity rest."""
        cell = job.cell
        if cell is None or job.standing is not HOLDING:
            return
        if cell.entity is None and not cell.dead:  # it was never made; whoever waits tries again
            self.end_life(cell)
        if job.leaving:
            job.leaving = False
            cell.leave_later = True
        self._retire_if_asked(cell)
        begun = cell.leave(job)
        if not cell.dead:
            self.begin(cell, begun)

    def withdraw(self, job: Job) -> None:
        """The job stands in line no longer."""
        cell = job.cell
        if cell is not None and job.standing is WAITING:
            begun = cell.withdraw(job)
            if not cell.dead:
                self.begin(cell, begun)

    def part(self, job: Job) -> None:
        """The job gives back whatever it holds or waits for."""
        cell = job.cell
        if job.standing is WAITING:
            self.withdraw(job)
        elif job.standing is HOLDING:
            self.leave(job)
        elif cell is not None and cell.guests and job in cell.guests:
            cell.guests.discard(job)
            self.begin(cell, [])
        if cell is not None and cell.guests:
            cell.guests.discard(job)

    def finish(self, job: Job) -> None:
        """Its task ends: `part`, and `forget` unless its answer is held."""
        cell = job.cell
        if (
            job.standing is HOLDING
            and cell is not None
            and cell.entity is not None
            and not (cell.dead or cell.guests or cell.roaming or cell.leave_later or job.leaving)
        ):  # nothing unusual: what `part` does, in short
            begun = cell.leave(job)
            if begun:
                for other in begun:
                    other.granted()
            elif not cell.held:
                now_ns = job.ended_ns or self.rt.clock.now_ns()
                cell.entity.seedbed_since = self.ages.stamp(now_ns)
                del self.cells[cell.key]
                cell.dead = True
        else:
            self._finish_unusual(job, cell)
        if job.held is None:
            self.forget(job)

    def _finish_unusual(self, job: Job, cell: Cell | None) -> None:
        absence, job.absence = job.absence, None
        if absence is not None and cell is not None:
            absence.failure = None  # it may hold this task's frames
            cell.roaming -= 1
        self.part(job)
        if cell is not None:
            if cell.holder is job:
                cell.holder = None
            if absence is not None:  # if it ended outside, nothing has been done for the entity yet
                self._retire_if_asked(cell)
                self.begin(cell, [])

    def _retire_if_asked(self, cell: Cell) -> None:
        if cell.leave_later and cell.entity is not None and not (cell.dead or cell.roaming):
            cell.leave_later = False
            self.retire(cell.entity)

    def forget(self, job: Job) -> None:
        """Nothing of the job is left."""
        rt = self.rt
        if self.repeats is not None and job.call.request_id:
            self.repeats.left(job)
        if job.expiry is not None:
            rt.timers.discard(job.expiry, job)
            job.expiry = None
        if job in self.calls:
            self.calls.remove(job)
            rt.calls -= 1
            if job.shard.exit is not None:
                job.shard.exit.ended(job)
        elif job in self.streams:
            self.streams.remove(job)
            rt.streams -= 1
            if job.shard.exit is not None:
                job.shard.exit.ended(job)
        context = job.context
        if context is not None:
            if context.touched:
                context.end()
            context.ended = True
        job.task = None  # the task holds the job

    def refuse_all(self, jobs: Iterable[Job]) -> None:
        """Answer `NotHere`: nothing of them has run."""
        for job in jobs:
            job.end(NotHere(self.rt.region.generation(job.call.type, job.call.shard)))
            job.cancel()

    def begin(self, cell: Cell, jobs: list[Job]) -> None:
        """These may begin now; without any, the entity rests."""
        for job in jobs:
            job.granted()
        if not (cell.held or cell.dead or cell.roaming) and cell.entity is not None:
            cell.entity.seedbed_since = self.ages.stamp(self.rt.clock.now_ns())
            if not cell.guests:
                del self.cells[cell.key]
                cell.dead = True

    def end_life(self, cell: Cell) -> None:
        """The entity is gone, or was never made: who waits begins its next life."""
        cell.dead = True
        del self.cells[cell.key]
        for job in cell.take_waiting():
            if job.ended:
                continue  # its own task cleans up
            if cell.shard.lost:
                self.refuse_all([job])
                continue
            next_life = self.cells.get(cell.key)
            if next_life is None:
                entity = self.entities.get(cell.key)
                next_life = self.cells[cell.key] = Cell(cell.key, cell.shard, entity)
            job.cell = next_life
            if self.enter(next_life, job):
                job.granted()

    def retire(self, entity: AnyEntity) -> None:
        """Take an entity out of memory once those who run have left."""
        raise NotImplementedError

    def drop(self, entity: AnyEntity, error: CallError) -> None:
        """What it has in memory was not kept: end with this error what is built on it."""
        raise NotImplementedError
