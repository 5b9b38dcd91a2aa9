"""Calls that came too early: this worker is behind its router's table, or has no seed just now.

They are held until the region or the lease changes, until their deadline, or for one lease's time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from seedbed.calls import NotHere
from seedbed.errors import CallError, Reason
from seedbed.ids import Epoch
from seedbed.status import failed
from seedbed_worker.jobs import Job
from seedbed_worker.runtime import Runtime

EpochSeen: TypeAlias = Callable[[str, int, Epoch], object]
"""Told of a type, a shard and an epoch that a seed knows and no table has brought."""


class Holds:
    """The calls that are held, in the order in which they came."""

    def __init__(self, rt: Runtime, epoch_seen: EpochSeen | None) -> None:
        self._rt = rt
        self._epoch_seen = epoch_seen
        self._held: dict[Job, _Hold] = {}
        self._since: dict[Job, int] = {}
        """When calls that are being admitted again were first held."""
        self._ahead: dict[tuple[str, int], int] = {}
        """Shards whose calls showed an epoch above our table's, since when."""

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, job: Job, epoch: Epoch | None) -> None:
        """Hold a call; `epoch` is one above our table's that its sender has seen."""
        rt = self._rt
        if len(self._held) >= rt.limits.worker_calls:
            message = (
                f"{len(self._held)} calls wait until this worker knows what it owns"
                " (SEEDBED_WORKER_CALLS); nothing ran, try again later"
            )
            job.end(failed(CallError(Reason.OVERLOADED, message, retry_after_s=0.1)))
            return
        ttl_ns = rt.lease.ttl_ns if rt.lease is not None else 0
        if epoch is not None:
            self._note(job.call.type, job.call.shard, epoch, ttl_ns)
        until_ns = self._since.get(job, rt.clock.now_ns()) + ttl_ns
        self._held[job] = _Hold(self, rt, job, epoch, until_ns, ttl_ns)

    def admit_again(self, admit: Callable[[Job], None]) -> None:
        """Something has changed: try all once more."""
        held, self._held = self._held, {}
        self._ahead.clear()
        self._since = {job: hold.since_ns for job, hold in held.items()}
        for job, hold in held.items():
            hold.release()
            if not job.ended:
                admit(job)
        self._since = {}

    def refuse_all(self) -> None:
        """Nothing will change any more."""
        held, self._held = self._held, {}
        for job, hold in held.items():
            hold.release()
            self._refuse(job)

    def expired(self, hold: _Hold) -> None:
        """It was held for as long as may be."""
        job = hold.job
        if self._held.pop(job, None) is None or job.ended:
            return
        if hold.at_deadline:
            message = "the deadline passed while the worker waited for a newer table; nothing ran"
            job.end(failed(CallError(Reason.DEADLINE, message)))
            return
        if hold.epoch is not None:
            self._note(job.call.type, job.call.shard, hold.epoch, hold.ttl_ns)
        self._refuse(job)

    def _note(self, type_: str, shard: int, epoch: Epoch, ttl_ns: int) -> None:
        """Report an epoch whose table has not come within a lease's time; the calls that show it
        may each end sooner."""
        now_ns = self._rt.clock.now_ns()
        if now_ns - self._ahead.setdefault((type_, shard), now_ns) >= ttl_ns:
            self._ahead[type_, shard] = now_ns
            if self._epoch_seen is not None:
                self._epoch_seen(type_, shard, epoch)

    def _refuse(self, job: Job) -> None:
        job.end(NotHere(self._rt.region.generation(job.call.type, job.call.shard)))


class _Hold:
    """One call that is held."""

    __slots__ = ("_holds", "_rt", "_tick", "at_deadline", "epoch", "job", "since_ns", "ttl_ns")

    def __init__(
        self, holds: Holds, rt: Runtime, job: Job, epoch: Epoch | None, until_ns: int, ttl_ns: int
    ) -> None:
        self._holds = holds
        self._rt = rt
        self.job = job
        self.epoch = epoch
        self.since_ns = until_ns - ttl_ns
        self.ttl_ns = ttl_ns
        deadline_ns = job.call.deadline_ns
        self.at_deadline = deadline_ns is not None and deadline_ns < until_ns
        at_ns = deadline_ns if deadline_ns is not None and self.at_deadline else until_ns
        self._tick = rt.timers.add(at_ns, self)

    def release(self) -> None:
        self._rt.timers.discard(self._tick, self)

    def expire(self) -> None:
        self._holds.expired(self)
