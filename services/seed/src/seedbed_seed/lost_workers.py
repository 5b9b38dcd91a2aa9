"""What follows when a Register stream ends without a goodbye: the mark, then a look for evidence.

The mark tells the coordinator from when on the worker's answers cannot be valid any more. Evidence
of death makes that shorter for durable types; it is guarded by this seed's own mark, so that a
resume elsewhere wins.
"""

from __future__ import annotations

import logging

from seedbed.clock import Clock
from seedbed_seed.cluster_view import ClusterView
from seedbed_seed.evidence import Budget, Dialler, Identified, is_literal
from seedbed_seed.member_records import Joined, MemberRecords
from seedbed_seed.retrying import Backoff
from seedbed_seed.store import StoreError
from seedbed_seed.worker_stream import WorkerStream

log = logging.getLogger(__name__)

REACH_S = 1.0
"""How long a new worker's port may take to answer who it is."""


class LostWorkers:
    """Acts on ended streams. `evidence` is whether a dial may end a worker's membership."""

    def __init__(
        self,
        *,
        records: MemberRecords,
        view: ClusterView,
        dialler: Dialler,
        budget: Budget,
        clock: Clock,
        evidence: bool,
    ) -> None:
        self._records = records
        self._view = view
        self._dialler = dialler
        self._budget = budget
        self._clock = clock
        self._evidence = evidence

    def stop_looking(self) -> None:
        """This seed goes away, so streams end for its own sake: that shows nothing."""
        self._evidence = False

    async def reach(self, joined: Joined, stream: WorkerStream) -> None:
        """See whether the worker can be reached where its record says: else a refusal there shows
        nothing later."""
        if self._evidence and is_literal(joined.host):
            found = await self._dialler.dial(joined.host, joined.port, REACH_S)
            stream.reached = (
                isinstance(found, Identified) and found.incarnation == joined.incarnation
            )

    async def stream_ended(self, joined: Joined, stream: WorkerStream) -> None:
        """Mark the member; then, on evidence, delete it."""
        if stream.renewed_ns is None:
            return  # the lease or the record was lost, or another stream renews it
        revision = await self._mark(joined, stream.renewed_ns)
        if revision is None:
            return
        try:
            if not (joined.resumed or stream.renewed):
                # Nobody ever told this incarnation that it may serve.
                await self._records.delete(joined, revision)
            elif await self._shows_death(joined, stream):
                gone = await self._records.delete(joined, revision)
                log.warning(
                    "worker seen dead",
                    extra={
                        "node": joined.node_id,
                        "incarnation": joined.incarnation,
                        "address": f"{joined.host}:{joined.port}",
                        "resumed_meanwhile": not gone,
                    },
                )
        except StoreError as error:
            # Its lease ends by itself.
            log.warning("lost worker", extra={"node": joined.node_id, "error": str(error)})

    async def _mark(self, joined: Joined, renewed_ns: int) -> int | None:
        """The mark's revision; given up after a TTL, when the lease has ended anyway."""

        def age_ms() -> int:
            return (self._clock.now_ns() - renewed_ns) // 1_000_000

        backoff = Backoff()
        began_ns = self._clock.now_ns()
        while self._clock.now_ns() - began_ns < joined.ttl_ms * 1_000_000:
            try:
                return await self._records.mark(joined, age_ms)
            except StoreError as error:
                log.info("worker not marked", extra={"node": joined.node_id, "error": str(error)})
                await backoff.wait()
        return None

    async def _shows_death(self, joined: Joined, stream: WorkerStream) -> bool:
        if not (self._evidence and stream.reached):
            log.info(
                "no evidence looked for",
                extra={"node": joined.node_id, "reached_before": stream.reached},
            )
            return False
        if not await self._dialler.is_dead(joined.host, joined.port, joined.incarnation):
            log.info("no evidence of death", extra={"node": joined.node_id})
            return False
        if not self._budget.take(len(self._view.workers)):
            log.warning("evidence over budget", extra={"node": joined.node_id})
            return False
        return self._evidence
