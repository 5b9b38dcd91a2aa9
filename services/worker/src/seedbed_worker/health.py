"""What a worker says about its health: the facts, asked from the loop and from the HTTP thread.

Ready means: a member that may be given shards, whose lease is valid, the tables known, a journal
that has committed and is the cluster's if there are durable classes, a clock that agrees with the
seeds'.
No check asks a peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from seedbed.clock import Clock
from seedbed.service.health import Health
from seedbed.service.loop_lag import LoopLag
from seedbed_worker.core.lease import Lease

REFRESH_S = 0.25
"""How often the gRPC answers follow facts that change without an event (a lease that lapses)."""
SKEW_LIMIT_MS = 30_000


class WorkerHealth:
    """The worker's checks. Its attributes are set in the loop and read from any thread."""

    def __init__(
        self,
        *,
        clock: Clock,
        lag: LoopLag,
        loop_stall_limit_s: float,
        services: Iterable[str],
    ) -> None:
        self.grpc = Health()
        self.draining = False
        self.refusal = ""
        """Set when the worker has refused itself: its classes cannot be served."""
        self.journal: Callable[[], str | None] = _fine
        """Why the worker could not begin to commit; None: it could."""
        self._clock = clock
        self._lag = lag
        self._limit_ns = int(loop_stall_limit_s * 1e9)
        self._services = tuple(services)
        self._lease: Callable[[], Lease | None] = _no_lease
        self._problem: Callable[[], str] = _nothing
        self._tables_loaded: Callable[[], bool] = _no
        self._may_be_given: Callable[[], bool] = _no
        self._skew_ms: Callable[[], int] = _zero
        self._is_ready = asyncio.Event()
        self.refresh()

    def follow(
        self,
        *,
        lease: Callable[[], Lease | None],
        problem: Callable[[], str],
        tables_loaded: Callable[[], bool],
        may_be_given: Callable[[], bool],
        skew_ms: Callable[[], int],
    ) -> None:
        """Ask the session from now on."""
        self._lease, self._problem = lease, problem
        self._tables_loaded, self._may_be_given = tables_loaded, may_be_given
        self._skew_ms = skew_ms

    def alive(self) -> Mapping[str, str | None]:
        """Liveness: the loop runs."""
        lag_ns = self._lag.lag_ns()
        late = f"stands still for {lag_ns / 1e9:.1f} s" if lag_ns > self._limit_ns else None
        return {"loop": late}

    def ready(self) -> Mapping[str, str | None]:
        """Readiness: calls may be sent here."""
        lease = self._lease()
        held = lease is not None and lease.valid(self._clock.now_ns())
        skew_ms = self._skew_ms()
        skewed = abs(skew_ms) > SKEW_LIMIT_MS
        return {
            **self.alive(),
            "registration": self.refusal or self._problem() or None,
            "journal": self.journal(),
            "lease": None if held else "not held",
            "tables": None if self._tables_loaded() else "not loaded",
            "member": None if self._may_be_given() else "not up",
            "clock": f"{skew_ms / 1000:.0f} s off the seeds' clock" if skewed else None,
            "drain": "draining" if self.draining else None,
        }

    def refresh(self) -> None:
        """Make the gRPC answers agree with the facts."""
        ready = all(wrong is None for wrong in self.ready().values())
        services = dict.fromkeys(self._services, ready)
        self.grpc.set(alive=True, ready=ready, services=services)
        if ready:
            self._is_ready.set()

    async def until_ready(self) -> None:
        """Wait for the first time at which all checks are good."""
        await self._is_ready.wait()

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_S)
            self.refresh()


def _no_lease() -> None:
    return None


def _fine() -> None:
    return None


def _nothing() -> str:
    return "not begun"


def _no() -> bool:
    return False


def _zero() -> int:
    return 0
