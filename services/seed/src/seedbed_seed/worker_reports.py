"""What a worker tells of itself, on its way into its record: draining, releases, load.

A hand-off waits for a release, so there is no reading before the write: the view has the record,
and the guard finds out if it was old. One write at a time; what comes meanwhile goes with the next.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from contextlib import suppress

from seedbed.clock import Clock
from seedbed.errors import ProtocolError
from seedbed.sharding import MAX_SHARDS
from seedbed.v1 import store_pb2
from seedbed_seed.cluster_view import ClusterView
from seedbed_seed.member_records import Joined, MemberRecords, names
from seedbed_seed.placement import FULL_PAUSE_S
from seedbed_seed.records import releases_of
from seedbed_seed.retrying import Backoff
from seedbed_seed.store import StoreError, StoreFull

log = logging.getLogger(__name__)

HOTTEST = 128
"""Busiest shards of a worker that its record names."""

SAME_LOAD = 0.1
"""A load that differs from the written one by no more than this share is not written."""

STEADY = (store_pb2.MEMBER_STATUS_JOINING, store_pb2.MEMBER_STATUS_UP)


class WorkerReports:
    """Of one Register stream; `run` writes. Telling raises `ProtocolError` for garbage."""

    def __init__(
        self,
        joined: Joined,
        *,
        records: MemberRecords,
        view: ClusterView,
        clock: Clock,
        load_interval_ns: int,
    ) -> None:
        self._joined = joined
        self._records = records
        self._view = view
        self._clock = clock
        self._interval_ns = load_interval_ns
        # Not at once: a worker that resumes has told another seed lately.
        self._load_due_ns = clock.now_ns() + self._interval_ns
        self._draining = False
        self._released: list[store_pb2.ReleasedShards] = []
        self._load: store_pb2.Load | None = None
        self._told = asyncio.Event()

    def drains(self) -> None:
        """The worker wants to leave."""
        self._draining = True
        self._told.set()

    def released(self, released: Iterable[store_pb2.ReleasedShards]) -> None:
        """All that the worker has handed off and has not seen in a table yet."""
        self._released = list(released)
        for of_type in self._released:
            self._check(of_type)
        if len({of_type.type for of_type in self._released}) < len(self._released):
            raise ProtocolError("releases of one type in two lists")
        self._told.set()

    def loaded(self, load: store_pb2.Load) -> None:
        """How busy the worker is."""
        rates = [load.calls_per_s, *(one.calls_per_s for one in load.hottest)]
        if not all(0 <= rate < math.inf for rate in rates):
            raise ProtocolError("a load with a rate that is none")
        hottest = sorted(load.hottest, key=lambda one: -one.calls_per_s)[:HOTTEST]
        self._load = store_pb2.Load(
            active_entities=load.active_entities, calls_per_s=load.calls_per_s, hottest=hottest
        )
        if self._clock.now_ns() >= self._load_due_ns:
            self._told.set()

    async def run(self) -> None:
        """Write what is told, until cancelled; a store that does not answer is asked again."""
        backoff = Backoff()
        while True:
            await self._told.wait()
            self._told.clear()
            try:
                await self._write()
                backoff.reset()
            except StoreError as error:
                log.warning(
                    "worker's report not written",
                    extra={"node": self._joined.node_id, "error": str(error)},
                )
                self._told.set()
                if isinstance(error, StoreFull):
                    await asyncio.sleep(FULL_PAUSE_S)
                else:
                    await backoff.wait()

    async def _write(self) -> None:
        now_ns = self._clock.now_ns()
        loading = self._load is not None and now_ns >= self._load_due_ns
        changes: list[Callable[[store_pb2.MemberRecord], bool]] = [self._drain, self._release]
        if loading:
            changes.append(self._weigh)

        def change(record: store_pb2.MemberRecord) -> bool:
            if not names(record, self._joined):
                return False
            changed = [one(record) for one in changes]
            return any(changed)

        def is_done(record: store_pb2.MemberRecord) -> bool:
            left = store_pb2.MemberRecord()
            left.CopyFrom(record)  # a question changes nothing
            return names(record, self._joined) and not change(left)

        known = self._view.workers.get(self._joined.node_id)
        if known is not None and is_done(known.record):
            return
        revision = await self._records.rewrite(
            self._joined.node_id, change, is_done, known.entry if known is not None else None
        )
        if revision is None:
            return  # another stream's, or gone: heartbeats find that out
        if loading:
            self._load_due_ns = now_ns + self._interval_ns
        # Else the next write would be guarded by what this one has changed.
        with suppress(TimeoutError):
            async with asyncio.timeout(self._records.step_s):
                await self._view.reached(revision)

    def _drain(self, record: store_pb2.MemberRecord) -> bool:
        if not self._draining or record.member.status not in STEADY:
            return False
        record.member.status = store_pb2.MEMBER_STATUS_DRAINING
        return True

    def _release(self, record: store_pb2.MemberRecord) -> bool:
        if releases_of(self._released) <= releases_of(record.released):
            return False
        record.ClearField("released")
        record.released.extend(self._released)
        return True

    def _weigh(self, record: store_pb2.MemberRecord) -> bool:
        if self._load is None or not _differ(record.load, self._load):
            return False
        record.load.CopyFrom(self._load)
        return True

    def _check(self, of_type: store_pb2.ReleasedShards) -> None:
        known = self._view.contracts.get(of_type.type)
        shards = known.contract.shard_count if known is not None else MAX_SHARDS
        if len(of_type.shards) != len(of_type.epochs):
            raise ProtocolError("releases without an epoch for each shard")
        if len(set(of_type.shards)) < len(of_type.shards):
            raise ProtocolError("a shard that is released twice in one list")
        if any(shard >= shards for shard in of_type.shards):
            raise ProtocolError(f"a released shard that type {of_type.type!r} does not have")


def _differ(written: store_pb2.Load, now: store_pb2.Load) -> bool:
    """Whether the difference, summed up over shards, is a good part of the whole."""
    before, after = (
        {(one.type, one.shard): one.calls_per_s for one in load.hottest} for load in (written, now)
    )
    moved = sum(abs(after.get(key, 0) - before.get(key, 0)) for key in before.keys() | after.keys())
    most = max(written.calls_per_s, now.calls_per_s)
    entities = abs(now.active_entities - written.active_entities)
    return max(
        moved, abs(now.calls_per_s - written.calls_per_s)
    ) > SAME_LOAD * most or entities > SAME_LOAD * max(written.active_entities, now.active_entities)
