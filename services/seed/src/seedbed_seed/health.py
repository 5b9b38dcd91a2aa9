"""Whether this seed may be called: its checks, for gRPC health and for the management port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from seedbed.clock import Clock
from seedbed.service.health import Health
from seedbed.service.loop_lag import LoopLag
from seedbed.v1 import store_pb2
from seedbed_seed.cluster_view import ClusterView
from seedbed_seed.store import Store

log = logging.getLogger(__name__)

PERIOD_S = 0.1
SAY_AGAIN_NS = 10_000_000_000
"""While the seed is not ready it says why this often."""

LAG_LIMIT_NS = 30_000_000_000

PROGRESS_NS = 1_000_000_000
"""A watch says at least this often that nothing has changed, so its age is that much too high."""


class SeedHealth:
    """Reads only, so any thread may ask `ready` and `alive`."""

    def __init__(
        self, *, view: ClusterView, store: Store, health: Health, clock: Clock, lag: LoopLag
    ) -> None:
        self.stopping = False
        self._view = view
        self._store = store
        self._health = health
        self._clock = clock
        self._lag = lag
        self._limit_ns = 0
        self._is_ready = asyncio.Event()

    def limit(self, ttl_s: int) -> int:
        """Set, and return, after how long without news from the store this seed is not ready."""
        self._limit_ns = ttl_s * 1_000_000_000 + PROGRESS_NS
        return self._limit_ns

    def ready(self) -> Mapping[str, str | None]:
        """The checks of readiness; None is good."""
        view = self._view
        age_ns = self._clock.now_ns() - view.progress_ns
        etcd: str | None = None
        if not view.synced:
            etcd = "never reached yet"
        elif age_ns > self._limit_ns:
            etcd = f"not heard of for {age_ns / 1e9:.1f} s"
        return {
            "etcd": etcd,
            "routes": None if view.synced else "not read yet",
            "serving": "stopping" if self.stopping else None,
        }

    def alive(self) -> Mapping[str, str | None]:
        """The checks of liveness."""
        lag_ns = self._lag.lag_ns()
        return {"loop": f"late by {lag_ns / 1e9:.1f} s" if lag_ns > LAG_LIMIT_NS else None}

    async def until_ready(self) -> None:
        """Wait for the first time at which all checks are good."""
        await self._is_ready.wait()

    async def run(self) -> None:
        """Tell gRPC health, and the log, until cancelled."""
        was_ready: bool | None = None
        said_ns = 0
        while True:
            wrong = {name: why for name, why in self.ready().items() if why is not None}
            ready = not wrong
            self.publish(ready)
            now_ns = self._clock.now_ns()
            if ready and was_ready is not True:
                log.info("seed ready")
                self._is_ready.set()
            if not ready and (was_ready is True or now_ns - said_ns >= SAY_AGAIN_NS):
                said_ns = now_ns
                full = {"store": "out of space"} if self._view.synced and self._store.full() else {}
                log.warning("seed not ready", extra={"checks": wrong | full})
            was_ready = ready
            await asyncio.sleep(PERIOD_S)

    def publish(self, ready: bool) -> None:
        """The state of gRPC health: this seed's own, and that of each entity service."""
        idle = self._view.coordinator.without_workers()
        self._health.set(
            ready=ready,
            services={
                known.contract.service: ready and name not in idle
                for name, known in self._view.contracts.items()
            },
        )


def members_by_state(view: ClusterView) -> dict[tuple[str, ...], float]:
    """For the gauge of members, by role and status."""
    counts: dict[tuple[str, ...], float] = {}
    for known in (*tuple(view.seeds.values()), *tuple(view.workers.values())):
        member = known.record.member
        role = store_pb2.Role.Name(member.role).removeprefix("ROLE_")
        status = store_pb2.MemberStatus.Name(member.status).removeprefix("MEMBER_STATUS_")
        counts[role, status] = counts.get((role, status), 0) + 1
    return counts


def shards_by_state(view: ClusterView) -> dict[tuple[str, ...], float]:
    """For the gauge of shards, by type: owned, or waiting for an owner."""
    counts: dict[tuple[str, ...], float] = {}
    for name, known in tuple(view.contracts.items()):
        tables = [table for (type_, _), table in tuple(view.tables.items()) if type_ == name]
        owned = sum(1 for table in tables for index in table.owner if index)
        counts[name, "owned"] = owned
        counts[name, "waiting"] = known.contract.shard_count - owned
    return counts
