"""What a worker does at SIGTERM: it drains, leaves and exits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from seedbed_worker.core import session_events as ev
from seedbed_worker.core.session import Phase
from tests.simulation.calls import TTL_NS
from tests.simulation.kernel import MS, SECOND, Violation

if TYPE_CHECKING:  # a worker departs
    from tests.simulation.worker import SimWorker

DRAIN_TIMEOUT_NS = 2 * TTL_NS
LAST_TURNS_NS = SECOND // 2
"""For turns that run when it has to leave with shards of its own."""
GOODBYE_NS = SECOND

BOUND_NS = DRAIN_TIMEOUT_NS + LAST_TURNS_NS + GOODBYE_NS
"""After this much of its own time the process has ended."""

_LOOK_NS = 50 * MS


class Departure:
    """Of one life of a worker."""

    def __init__(self, worker: SimWorker) -> None:
        self._worker = worker
        self.then: list[Callable[[], None]] = []
        """To be called when the process has ended, however."""
        self.since_ns = worker.kernel.now_ns
        worker.kernel.log(f"{worker.name}: drains")
        worker.kernel.after(0, worker.session, lambda: worker.feed(ev.DrainOrdered()))
        self._again(self._look)

    def ended(self) -> None:
        """The process is gone."""
        for then in self.then:
            self._worker.kernel.after(MS, None, then)

    def _look(self) -> None:
        worker = self._worker
        age_ns = worker.kernel.now_ns - self.since_ns
        owns = worker.core.phase is Phase.HOLDING and worker.region.owns_any()
        if owns and age_ns < DRAIN_TIMEOUT_NS:
            self._again(self._look)
            return
        if owns and worker.world.clean:
            raise Violation(f"{worker.name}: a drain timed out though nothing went wrong")
        worker.region.drain()
        if owns:
            worker.kernel.after(LAST_TURNS_NS, worker.loop, self._leave)
        else:
            self._leave()

    def _leave(self) -> None:
        worker = self._worker
        worker.turns.stop()

        def leave() -> None:
            by_ns = worker.session.local(worker.kernel.now_ns + GOODBYE_NS)
            worker.feed(ev.LeaveOrdered(by_ns))

        worker.kernel.after(worker.kernel.between(0, MS), worker.session, leave)

    def _again(self, action: Callable[[], None]) -> None:
        self._worker.kernel.after(_LOOK_NS, self._worker.loop, action)
