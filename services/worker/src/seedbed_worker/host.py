"""Runs the calls of this worker's entities: admission, and everything that ends more than one call.

A call is admitted by the region (is the shard ours?) and the lease, then stands in line at its
entity's home. While the worker is behind its router's table, or has no seed, calls are held here,
within the limits and at most for the lease's time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from seedbed.calls import EntityCall, NotHere
from seedbed.clock import Clock
from seedbed.errors import CallError, Reason
from seedbed.status import failed
from seedbed.tracing import NO_TRACER, Tracer
from seedbed_worker.cells import Shard
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.region import Admitted, EpochAhead, Refused, Region
from seedbed_worker.entity_store import EntityStore, MemoryStore, Ownership
from seedbed_worker.handing_off import HandingOff, Released
from seedbed_worker.holds import EpochSeen, Holds
from seedbed_worker.home import Home
from seedbed_worker.hosted import HostedClass, HostedMethod
from seedbed_worker.jobs import Answer, Job, OnEnd
from seedbed_worker.leaving import Leaving
from seedbed_worker.refusals import refenced, unknown_method
from seedbed_worker.reminders import ReminderEnded, Reminders
from seedbed_worker.runtime import CallMetrics, HostLimits, Runtime
from seedbed_worker.streams import OnItem, StreamCall
from seedbed_worker.sweeper import Sweeper
from seedbed_worker.turns import UnaryCall

log = logging.getLogger(__name__)


class Host:
    """The entities of a worker."""

    def __init__(
        self,
        *,
        hosted: Sequence[HostedClass],
        region: Region,
        lease: Lease | None = None,
        clock: Clock,
        limits: HostLimits,
        node_id: str,
        metrics: CallMetrics,
        tracer: Tracer = NO_TRACER,
        epoch_seen: EpochSeen | None = None,
        released: Released | None = None,
        reminder_ended: ReminderEnded | None = None,
        store: EntityStore | None = None,
    ) -> None:
        """`released` is told of shards that the region has released. `store` keeps durable
        entities; None: this process's memory."""
        if store is None:
            store = MemoryStore()
        self.rt = Runtime(
            region=region, lease=lease, clock=clock, limits=limits, node_id=node_id,
            metrics=metrics, tracer=tracer,
        )  # fmt: skip
        self.homes: dict[str, Home] = {}
        self._sweeper = Sweeper(self.rt, self.homes)
        for one in hosted:
            self.homes[one.contract.type] = Home(
                self.rt,
                one,
                store=store,
                make_room=self._sweeper.make_room,
                readmit=self._admit_later,
            )
        self.methods: dict[str, tuple[HostedClass, HostedMethod]] = {
            path: (one, method) for one in hosted for path, method in one.methods.items()
        }
        self.holds = Holds(self.rt, epoch_seen)
        self.reminders = self.rt.reminders = Reminders(
            self.rt,
            self.homes,
            store,
            self._admit_later,
            reminder_ended or (lambda type_, method, end: None),
        )
        self._handing_off = HandingOff(self.rt, self.homes, released or (lambda ended, late: None))
        self.leaving = Leaving(self.rt, self.homes, self.holds, self._handing_off)

    async def run(self) -> None:
        """Be the parent of all turns, until cancelled. Before it runs nothing is admitted."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self.rt.start(tasks)
                self._sweeper.start()
                reading = tasks.create_task(self.reminders.reader.run(), name="reminders")
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    reading.cancel()
                    self.rt.stop()
                    self._sweeper.stop()
        finally:
            self._answer_all()

    def begin(self, lease: Lease) -> None:
        """Serve under this incarnation's lease."""
        self.rt.lease = lease
        self.region_changed()

    # Calls.

    def submit(self, call: EntityCall, on_end: OnEnd) -> Job | None:
        """Start a unary call; `on_end` gets its answer, which may be before this returns.

        The job's `abandon()` says that its caller is gone.
        """
        home = self.homes.get(call.type)
        if home is None:
            on_end(NotHere(self.rt.region.generation(call.type, call.shard)))
            return None
        method = home.hosted.methods.get(call.method) or unknown_method(call)
        job = UnaryCall(home, method, call, on_end)
        if self._admit(job, home):
            job.handed = True
            self.rt.runners.run_now(job)
        return job

    def open(
        self, call: EntityCall, on_item: OnItem, on_end: OnEnd, credit: int
    ) -> StreamCall | None:
        """Open a stream; its items come only as far as there is credit (`grant` adds some)."""
        home = self.homes.get(call.type)
        if home is None:
            on_end(NotHere(self.rt.region.generation(call.type, call.shard)))
            return None
        method = home.hosted.methods.get(call.method) or unknown_method(call)
        job = StreamCall(home, method, call, on_item, on_end, credit)
        self._admit_later(job)
        return job

    async def answer_of(self, job: Job) -> Answer:
        """Wait for a call that has not been answered at once.

        If the caller is cancelled, a turn that has begun goes on.
        """
        waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def answered(answer: Answer) -> None:
            if not waiter.done():
                waiter.set_result(answer)

        job.on_end = answered
        try:
            return await waiter
        finally:
            job.abandon()

    # What the session tells.

    def region_changed(self) -> None:
        """The region has other tables, or the lease its stream again."""
        rt = self.rt
        self._handing_off.look()
        for type_, home in self.homes.items():
            lost = [
                shard
                for shard in home.shards.values()
                if shard.lease is not rt.lease
                or rt.region.owned(type_, shard.number) != shard.epoch
            ]
            if lost:
                home.lose(lost)
                log.info("shards lost", extra={"entity_type": type_, "shards": len(lost)})
        self.reminders.reader.region_changed()
        self.holds.admit_again(self._admit_later)
        self.leaving.look()

    def give_up(self, lost: Ownership, *, superseded: bool) -> bool:
        """The journal has refused this ownership: forget what there is of it.

        True if the shard still is ours by its table, and was not taken under a higher epoch
        (`superseded`): the next call then begins another ownership. Then nobody is told that we are
        not the owner, since routers would wait for another table, and there will be none.
        """
        for type_, home in self.homes.items():
            shard = home.shards.get(lost.number)
            if shard is not None and shard is lost:
                owned = self.rt.region.owned(type_, shard.number)
                is_ours = owned == shard.epoch and not superseded
                home.lose([shard], refenced() if is_ours else None)
                self.reminders.reader.lost(type_, shard.number)
                return is_ours
        return False

    def drop_all(self, reason: Reason = Reason.FENCED) -> None:
        """The incarnation is over: stop its turns, forget its entities; calls that wait move on."""
        self.rt.lease = None
        self._handing_off.look()
        for home in self.homes.values():
            home.lose(list(home.shards.values()))
        self.reminders.reader.region_changed()
        self.holds.refuse_all()
        self.leaving.look()
        log.info("entities dropped", extra={"reason": reason.value})

    def shards(self) -> list[tuple[str, Shard]]:
        """The shards that calls have come to, by type. Any thread may ask: each copy is made in one
        step."""
        return [
            (type_, shard)
            for type_, home in self.homes.items()
            for shard in list(home.shards.values())
        ]

    def next_due_ns(self) -> int | None:
        """When `tick` may have something to do next; None while there is nothing."""
        due = [home.ages.next_due_ns() for home in self.homes.values()]
        due += [self.rt.timers.next_due_ns(), self.reminders.next_due_ns()]
        return min((at_ns for at_ns in due if at_ns is not None), default=None)

    def tick(self) -> None:
        """Do what is due by the clock now (timers call it; so may the owner of a clock)."""
        self.rt.timers.fire()
        self.reminders.look()
        self._sweeper.sweep()

    # Inside.

    def _admit_later(self, job: Job) -> None:
        """Admit a call that begins, if it may, after what is ready already."""
        home = self.homes[job.call.type]
        if self._admit(job, home):
            job.granted()

    def _admit(self, job: Job, home: Home) -> bool:
        """Let a call stand in line, hold it or refuse it; True if it may begin at once."""
        rt, call = self.rt, job.call
        lease, region = rt.lease, rt.region
        shard = home.shards.get(call.shard)
        if not (
            # What the region would say, as long as it has the view by which it admitted before.
            shard is not None
            and lease is not None
            and shard.lease is lease
            and lease.attached
            and shard.view is region.view
            and shard.incarnation != region.fenced
            and call.epoch <= shard.epoch
            and not region.draining
        ):
            shard = self._ask_region(job, home)
        if shard is not None:
            try:
                return home.accept(job, shard)
            except CallError as error:
                job.end(failed(error))
        return False

    def _ask_region(self, job: Job, home: Home) -> Shard | None:
        """The call's shard; None if the call is held or refused."""
        rt, call = self.rt, job.call
        lease = rt.lease
        verdict = rt.region.admit(
            call.type, call.shard, call.epoch, call.generation, from_seed=call.from_seed
        )
        if isinstance(verdict, Refused) or lease is None or not rt.running:
            job.end(NotHere(rt.region.generation(call.type, call.shard)))
        elif not isinstance(verdict, Admitted):
            self.holds.hold(job, verdict.epoch if isinstance(verdict, EpochAhead) else None)
        elif verdict.incarnation != lease.incarnation:
            job.end(NotHere(rt.region.generation(call.type, call.shard)))
        elif not lease.attached:
            self.holds.hold(job, None)
        else:
            return home.shard(call.shard, verdict, lease)
        return None

    def _answer_all(self) -> None:
        """The host has stopped: nobody who still waits may wait for ever."""
        self.holds.refuse_all()
        for home in self.homes.values():
            for job in (*home.calls, *home.streams):
                job.end(failed(CallError(Reason.FENCED, "the worker stops"), started=job.began))
