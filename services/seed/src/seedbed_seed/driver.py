"""Feeds the coordinator's core and carries out what it decides, while this seed leads.

Membership of the seed itself, and its candidacy, hang on one lease of its own. Persist, then tell:
the core's memory changes only by what the watch delivers, so a write whose answer was lost needs
no guess, only a reading.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from seedbed.clock import Clock
from seedbed.groups import leaves
from seedbed.ids import Epoch
from seedbed_seed.cluster_view import ClusterView, ViewChange
from seedbed_seed.core import decisions
from seedbed_seed.election import Leadership, LeadershipLost, campaign
from seedbed_seed.placement import FULL_PAUSE_S, Placement
from seedbed_seed.retrying import Backoff
from seedbed_seed.seed_lease import LeaseLost, SeedLease
from seedbed_seed.store import (
    LeaseNotFound,
    Store,
    StoreError,
    StoreFull,
)

log = logging.getLogger(__name__)


class Driver:
    """This seed's membership and candidacy; `resign`, cancel `run`, then `SeedLease.leave`."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        view: ClusterView,
        lease: SeedLease,
        node_id: str,
        placement: Placement,
    ) -> None:
        self._store = store
        self._clock = clock
        self._view = view
        self._lease = lease
        self._node_id = node_id
        self._placement = placement
        self._wake = asyncio.Event()
        self._leadership: Leadership | None = None
        self._candidacy: asyncio.Task[None] | None = None
        self._resigned = False
        view.listen(self._changed)

    @property
    def leading(self) -> bool:
        """Whether this seed is the coordinator, as far as it knows."""
        return self._leadership is not None

    async def run(self) -> None:
        """Be a member and a candidate, for ever: losing the lease begins both anew."""
        backoff = Backoff()
        while True:
            try:
                lease = await self._lease.enter()
                backoff.reset()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._lease.keep(), name="seed lease")
                    if not self._resigned:
                        self._candidacy = tasks.create_task(
                            self._candidate(lease), name="seed candidacy"
                        )
            except* (LeaseLost, StoreError) as errors:
                first = leaves(errors)[0]
                log.warning(
                    "seed without lease", extra={"node": self._node_id, "error": str(first)}
                )
                if isinstance(first, StoreFull):
                    # A named state, not a retry loop.
                    await asyncio.sleep(FULL_PAUSE_S)
            await backoff.wait()

    async def resign(self) -> None:
        """Lead no more, and never again; the lease is kept. Hand-offs are the next leader's."""
        self._resigned = True
        if self._candidacy is not None:
            self._candidacy.cancel()
            await asyncio.wait([self._candidacy])

    def epoch_reported(self, type_: str, shard: int, epoch: int) -> bool:
        """A worker saw a higher epoch than its table's; False if this seed does not lead."""
        if self._leadership is None:
            return False
        event = decisions.EpochReported(type_, shard, Epoch(epoch))
        self._view.coordinator.apply(event, self._clock.now_ns())
        self._wake.set()
        return True

    def moves_ordered(self, moves: Sequence[decisions.ShardMove]) -> bool:
        """An operator wants these moves; False if this seed does not lead."""
        if self._leadership is None:
            return False
        self._apply(decisions.MovesOrdered(tuple(moves)))
        self._wake.set()
        return True

    async def _candidate(self, lease: int) -> None:
        backoff = Backoff()
        while True:
            try:
                prefix = self._view.keys.election
                async with campaign(
                    self._store, prefix, lease, self._node_id.encode()
                ) as leadership:
                    await self._lead(leadership)
            except LeadershipLost as error:
                log.info("leadership lost", extra={"node": self._node_id, "why": str(error)})
            except LeaseNotFound as error:
                raise LeaseLost(str(error)) from error
            except StoreFull as error:
                # Renewals need no space, so the lease is as good as before: only candidacy waits.
                log.error("store full", extra={"error": str(error)})
                await asyncio.sleep(FULL_PAUSE_S)
            await backoff.wait()

    async def _lead(self, leadership: Leadership) -> None:
        # What this seed decides from must not be older than its election.
        await self._view.reached(leadership.elected_revision)
        log.info("leader elected", extra={"node": self._node_id, "revision": leadership.revision})
        self._leadership = leadership
        self._apply(decisions.Elected())
        try:
            await self._decide_for_ever(leadership)
        finally:
            self._leadership = None
            self._apply(decisions.Deposed())

    async def _decide_for_ever(self, leadership: Leadership) -> None:
        while True:
            self._wake.clear()
            now_ns = self._clock.now_ns()
            decision = self._view.coordinator.decide(now_ns, self._clock.wall_ms())
            if decision.persist is not None:
                await self._placement.carry_out(leadership, decision.persist)
                continue
            wait_s: float | None = None
            if decision.wake_at_ns is not None:
                wait_s = max(0.0, (decision.wake_at_ns - now_ns) / 1e9)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    def _apply(self, event: decisions.Event) -> None:
        self._view.coordinator.apply(event, self._clock.now_ns())

    def _changed(self, change: ViewChange) -> None:
        self._wake.set()
