"""Route updates for everyone who follows this seed: workers' Register streams and WatchRoutes.

Every change that routers can see gets a version. A reader holds the version that it was sent last,
and an update is computed from there to the newest: a slow reader skips states instead of queueing
them, and readers that keep up share one serialised message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from seedbed import contract as contract_codec
from seedbed import tables as table_codec
from seedbed.clock import Clock
from seedbed.errors import CallError, Reason
from seedbed.ids import Incarnation
from seedbed.status import failed, status_error
from seedbed.transport import Method, ServerCall, ServerStreamMethod, StatusError
from seedbed.v1 import cluster_pb2, store_pb2
from seedbed_seed.cluster_view import ClusterView, ViewChange
from seedbed_seed.listings import members
from seedbed_seed.outlook import lost_owners

PROTOCOL = 1
"""The version of Register, Link and WatchRoutes that this release speaks."""

SYNC_WAIT_S = 5.0
"""How long a new watcher waits for a seed that has not read the store yet."""


SAME_TIME_NS = 50_000_000
"""A message that says how long something will last is sent again within this time, no later."""


@dataclass(frozen=True, slots=True)
class _Serialised:
    data: bytes
    at_ns: int


class RouteLog:
    """The newest tables, contracts and lists, each with the version that changed it last."""

    def __init__(self, view: ClusterView, clock: Clock) -> None:
        self.version = 0
        self._view = view
        self._clock = clock
        self._reset_at = 0
        self._restored_at = 0
        self._lists: tuple[tuple[str, ...], ...] = ((), (), ())
        self._lost: tuple[tuple[Incarnation, int], ...] = ()
        self._tables: dict[tuple[str, int], tuple[int, store_pb2.AllocationTable]] = {}
        self._contracts: dict[str, tuple[int, store_pb2.TypeContract]] = {}
        self._updates: dict[tuple[int, bool], _Serialised] = {}
        self._wakers: set[Callable[[], None]] = set()
        view.listen(self._changed)

    def reader(self, wake: Callable[[], None], *, register: bool) -> RouteReader:
        """A new reader; `wake` is called when `take` has news. `register`: as SeedMessages."""
        self._wakers.add(wake)
        return RouteReader(self, wake, register=register)

    def forget(self, wake: Callable[[], None]) -> None:
        self._wakers.discard(wake)

    def since(self, version: int, *, register: bool) -> bytes:
        """The update that brings a reader from this version (0: nothing) to the newest."""
        now_ns = self._clock.now_ns()
        known = self._updates.get((version, register))
        if known is not None and (not self._lost or now_ns - known.at_ns < SAME_TIME_NS):
            return known.data
        update = self._update(version, now_ns)
        message = cluster_pb2.SeedMessage(routes=update) if register else update
        data = message.SerializeToString()
        self._updates[version, register] = _Serialised(data, now_ns)
        return data

    def _update(self, version: int, now_ns: int) -> cluster_pb2.RouteUpdate:
        snapshot = version < self._reset_at or version == 0
        since = 0 if snapshot else version
        seeds, unreachable, without_workers = self._lists
        return cluster_pb2.RouteUpdate(
            revision=self._view.revision,
            snapshot=snapshot,
            restored=0 < version < self._restored_at,
            tables=[table for at, table in self._tables.values() if at > since],
            contracts=[contract for at, contract in self._contracts.values() if at > since],
            unreachable=unreachable,
            seeds=seeds,
            types_without_workers=without_workers,
            lost=[
                cluster_pb2.Lost(
                    incarnation=incarnation, available_in_ms=max(0, at_ns - now_ns) // 1_000_000
                )
                for incarnation, at_ns in self._lost
            ],
        )

    def _changed(self, change: ViewChange) -> None:
        core = self._view.coordinator
        lists: tuple[tuple[str, ...], ...] = (
            self._view.seed_addresses(),
            tuple(sorted(core.unreachable())),
            tuple(sorted(core.without_workers())),
        )
        lost = lost_owners(core, self._view.tables.values(), self._clock.now_ns())
        others = (lists, lost) != (self._lists, self._lost)
        if not (change.snapshot or change.tables or change.contracts or others):
            return
        self.version += 1
        self._lists, self._lost = lists, lost
        self._updates.clear()
        if change.snapshot:
            self._reset_at = self.version
            self._tables.clear()
            self._contracts.clear()
        if change.restored:
            self._restored_at = self.version
        for table in change.tables:
            self._tables[table.type, table.chunk] = (self.version, table_codec.to_proto(table))
        for known in change.contracts:
            contract = known.contract
            self._contracts[contract.type] = (self.version, contract_codec.to_proto(contract))
        for wake in tuple(self._wakers):
            wake()


class RouteReader:
    """One follower's place in the log."""

    def __init__(self, log: RouteLog, wake: Callable[[], None], *, register: bool) -> None:
        self._log = log
        self._wake = wake
        self._register = register
        self._version = 0

    def take(self) -> bytes | None:
        """What is new since the last call, in one message; None if nothing is."""
        if self._version == self._log.version:
            return None
        update = self._log.since(self._version, register=self._register)
        self._version = self._log.version
        return update

    def close(self) -> None:
        self._log.forget(self._wake)


class Watches:
    """`Cluster.WatchRoutes` and `Cluster.WatchMembers`."""

    def __init__(self, view: ClusterView, routes: RouteLog) -> None:
        self._view = view
        self._routes = routes
        self._stopping = False
        self._wakers: set[asyncio.Event] = set()
        view.listen(self._changed)

    def find(self, method: str) -> Method | None:
        """The two methods, for the server."""
        match method:
            case "/seedbed.v1.Cluster/WatchRoutes":
                return ServerStreamMethod(self.watch_routes)
            case "/seedbed.v1.Cluster/WatchMembers":
                return ServerStreamMethod(self.watch_members)
            case _:
                return None

    def stop(self) -> None:
        """End all watches: their readers go to another seed."""
        self._stopping = True
        for wake in self._wakers:
            wake.set()

    async def watch_routes(self, call: ServerCall, request: bytes) -> AsyncIterator[bytes]:
        """A snapshot of the tables, then every change."""
        try:
            asked = cluster_pb2.WatchRoutesRequest.FromString(request)
        except DecodeError as error:
            raise _refusal(Reason.BAD_REQUEST, f"not a WatchRoutesRequest: {error}") from error
        if not asked.protocol_min <= PROTOCOL <= asked.protocol_max:
            raise _refusal(
                Reason.PROTOCOL,
                f"this seed speaks protocol {PROTOCOL}, the caller {asked.protocol_min} to"
                f" {asked.protocol_max}: upgrade the older one",
            )
        await self._synced()
        wake = asyncio.Event()
        reader = self._routes.reader(wake.set, register=False)
        self._wakers.add(wake)
        try:
            while not self._stopping:
                wake.clear()
                update = reader.take()
                if update is None:
                    await wake.wait()
                else:
                    yield update
        finally:
            self._wakers.discard(wake)
            reader.close()
        raise _refusal(Reason.SEED_NOT_READY, "this seed is going away: watch another one")

    async def watch_members(self, call: ServerCall, request: bytes) -> AsyncIterator[bytes]:
        """The members, all of them, now and after each change."""
        try:
            cluster_pb2.WatchMembersRequest.FromString(request)
        except DecodeError as error:
            raise _refusal(Reason.BAD_REQUEST, f"not a WatchMembersRequest: {error}") from error
        await self._synced()
        wake = asyncio.Event()
        self._wakers.add(wake)
        sent: list[store_pb2.Member] | None = None
        try:
            while not self._stopping:
                wake.clear()
                current = members(self._view)
                if current == sent:
                    await wake.wait()
                    continue
                sent = current
                update = cluster_pb2.MemberUpdate(revision=self._view.revision, members=current)
                yield update.SerializeToString()
        finally:
            self._wakers.discard(wake)
        raise _refusal(Reason.SEED_NOT_READY, "this seed is going away: watch another one")

    async def _synced(self) -> None:
        try:
            async with asyncio.timeout(SYNC_WAIT_S):
                await self._view.reached(0)
        except TimeoutError:
            raise _refusal(
                Reason.SEED_NOT_READY, "this seed has not read etcd yet: try another seed"
            ) from None

    def _changed(self, change: ViewChange) -> None:
        if change.members or change.tables or change.orders:
            for wake in self._wakers:
                wake.set()


def _refusal(reason: Reason, message: str) -> StatusError:
    return status_error(failed(CallError(reason, message)))
