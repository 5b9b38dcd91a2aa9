"""Time of a test's cluster: from one thing that falls due to the next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from seedbed.testing.clock import VirtualClock
from seedbed.testing.memory_transport import MemoryTransport
from seedbed.testing.patience import finished, settle
from seedbed.testing.worker import KitWorker
from seedbed_worker.jobs import Job


class Timed(Protocol):
    """What has something to do at times."""

    def next_due_ns(self) -> int | None:
        """When `tick` has something to do next; None while there is nothing."""
        ...

    def tick(self) -> None:
        """Do what is due by the clock now."""
        ...


class Timeline:
    """Moves the clock, and everything that goes by it."""

    def __init__(
        self,
        clock: VirtualClock,
        network: MemoryTransport,
        workers: Sequence[KitWorker],
        *others: Timed,
    ) -> None:
        self._clock = clock
        self._network = network
        self._workers = list(workers)
        self._others = others
        self._given_up: set[Job] = set()

    def forget(self, worker: KitWorker) -> None:
        """It is dead: nothing happens there any more, and its lease ends."""
        self._workers.remove(worker)

    async def advance(self, by_ns: int) -> None:
        """Let so much time pass."""
        end_ns = self._clock.now_ns() + by_ns
        await settle(self._network)
        while True:
            due_ns = self._next_due_ns()
            if due_ns is None or due_ns > end_ns:
                break
            await self._go_to(due_ns)
        await self._go_to(end_ns)

    def _next_due_ns(self) -> int | None:
        due = [timed.next_due_ns() for timed in self._all()]
        return min((at_ns for at_ns in due if at_ns is not None), default=None)

    def _all(self) -> Iterable[Timed]:
        yield from (worker.host for worker in self._workers)
        yield from (worker.session.router for worker in self._workers)
        yield from self._others

    async def _go_to(self, at_ns: int) -> None:
        for worker in self._workers:
            worker.renew(max(at_ns, self._clock.now_ns()))
        self._clock.move_to(at_ns)
        before = {job for job in self._jobs() if job.handed and not job.ended}
        for timed in self._all():
            timed.tick()
        self._given_up.intersection_update(self._jobs())
        self._given_up.update(
            await finished(self._network, lambda: self._moved(before), what="and time goes on")
        )

    def _jobs(self) -> Iterable[Job]:
        for worker in self._workers:
            for home in worker.host.homes.values():
                yield from home.calls
                yield from home.streams

    def _moved(self, before: set[Job]) -> list[Job]:
        """Calls that end now, and those whose turns have begun since (but for open streams)."""
        return [
            job
            for job in self._jobs()
            if job not in self._given_up
            and (job.ended or (job.handed and not job.streaming and job not in before))
        ]
