"""`Cluster.ReportEpoch`: epochs above their tables' that workers saw reach the seed that leads.

A worker tells the seed on which it is registered; only the leader can commit above it. A seed that
does not lead passes it on, beside the worker's stream, so that no heartbeat waits for that. Once:
the worker says it again as long as calls show the epoch and its table stays below.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError

from seedbed.errors import CallError, Reason
from seedbed.transport import (
    Disconnected,
    Method,
    ServerCall,
    StatusError,
    Transport,
    UnaryMethod,
)
from seedbed.v1 import cluster_pb2
from seedbed_seed.cluster_view import ClusterView

log = logging.getLogger(__name__)

REPORT_EPOCH = "/seedbed.v1.Cluster/ReportEpoch"

PENDING = 1000
"""Shards of which something may wait to be passed on."""

_FAILED_PRECONDITION: Final = 9


class EpochReports:
    """`lead` tells the coordinator, and says False if it is not here; `run` passes on the rest."""

    def __init__(
        self,
        *,
        view: ClusterView,
        transport: Transport,
        lead: Callable[[str, int, int], bool],
        timeout_s: float,
    ) -> None:
        self._view = view
        self._transport = transport
        self._lead = lead
        self._timeout_s = timeout_s
        self._pending: dict[tuple[str, int], cluster_pb2.EpochSeen] = {}
        self._wake = asyncio.Event()

    def find(self, method: str) -> Method | None:
        """ReportEpoch, for the server."""
        return UnaryMethod(self.report_epoch) if method == REPORT_EPOCH else None

    async def report_epoch(self, call: ServerCall, request: bytes) -> bytes:
        """What another seed was told; refused unless this one leads."""
        try:
            seen = cluster_pb2.EpochSeen.FromString(request)
        except DecodeError as error:
            raise CallError(Reason.BAD_REQUEST, f"not an EpochSeen: {error}") from error
        if not self._lead(seen.type, seen.shard, seen.epoch):
            leader = self._view.leader() or "nobody"
            raise StatusError(_FAILED_PRECONDITION, f"this seed does not lead, {leader} does")
        return cluster_pb2.ReportEpochResponse().SerializeToString()

    def seen(self, seen: cluster_pb2.EpochSeen) -> None:
        """What a worker of this seed says."""
        if self._lead(seen.type, seen.shard, seen.epoch):
            return
        key = (seen.type, seen.shard)
        known = self._pending.get(key)
        if known is None and len(self._pending) >= PENDING:
            self._failed(seen, "", f"{PENDING} others wait")
        elif known is None or known.epoch < seen.epoch:
            self._pending[key] = seen
            self._wake.set()

    async def run(self) -> None:
        """Pass on what waits, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            pending, self._pending = self._pending, {}
            if pending:
                await self._pass_on(list(pending.values()))

    async def _pass_on(self, reports: list[cluster_pb2.EpochSeen]) -> None:
        """Tell the leader all of it; with the first failure the rest is given up too."""
        address = self._view.leader_address()
        if not address:
            self._failed(reports[0], address, "no seed leads")
            return
        connection = self._transport.connect(address)
        try:
            for seen in reports:
                try:
                    await connection.unary(
                        REPORT_EPOCH, seen.SerializeToString(), timeout=self._timeout_s
                    )
                except (Disconnected, StatusError) as error:
                    self._failed(seen, address, str(error))
                    return
        finally:
            await connection.close()

    def _failed(self, seen: cluster_pb2.EpochSeen, leader: str, why: str) -> None:
        log.warning(
            "epoch not passed on",
            extra={
                "type": seen.type,
                "shard": seen.shard,
                "epoch": seen.epoch,
                "leader": leader,
                "why": why,
            },
        )
