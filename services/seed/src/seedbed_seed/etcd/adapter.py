"""The `Store` port's adapter for etcd: owns the channels, the keepalive stream and the watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from seedbed_seed.etcd.alarms import ALARM_INTERVAL_S, Alarms
from seedbed_seed.etcd.calls import DEFAULT_TIMEOUT_S, Calls
from seedbed_seed.etcd.channels import TLS_INTERVAL_S, Channels, TlsFiles
from seedbed_seed.etcd.kv import KeyValues
from seedbed_seed.etcd.leases import Leases
from seedbed_seed.etcd.revisions import Revisions
from seedbed_seed.etcd.tasks import background
from seedbed_seed.etcd.watch import Watch
from seedbed_seed.store import (
    Compare,
    Get,
    Outcome,
    Reading,
    StoreFull,
    StoreUnreachable,
    WatchUpdate,
    Write,
)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What lives from the start of the store's scope to its end."""

    tasks: asyncio.TaskGroup
    channels: Channels
    calls: Calls
    kv: KeyValues
    leases: Leases
    alarms: Alarms
    running: tuple[asyncio.Task[None], ...]


class EtcdStore:
    """The seed's store on etcd; use it as an async context manager.

    Entering connects to nothing: the first call does. `StoreFull`, like `WriteInDoubt`, leaves open
    whether the write was carried out: etcd may find out about the space only while applying it.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        tls: TlsFiles | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        alarm_interval_s: float = ALARM_INTERVAL_S,
        tls_interval_s: float = TLS_INTERVAL_S,
        first_endpoint: int | None = None,
    ) -> None:
        """`first_endpoint` is the index of the one to begin with (None: any)."""
        self._endpoints = tuple(endpoints)
        self._tls = tls
        self._timeout_s = timeout_s
        self._alarm_interval_s = alarm_interval_s
        self._tls_interval_s = tls_interval_s
        self._first_endpoint = first_endpoint
        self._revisions = Revisions()
        self._parts: _Parts | None = None

    async def __aenter__(self) -> Self:
        tasks = asyncio.TaskGroup()
        channels = Channels(self._endpoints, self._tls, tasks, self._first_endpoint)
        calls = Calls(channels)
        leases = Leases(calls, channels, tasks)
        alarms = Alarms(calls, self._alarm_interval_s)

        await tasks.__aenter__()

        def start(work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
            return tasks.create_task(work, name=name)

        self._parts = _Parts(
            tasks=tasks,
            channels=channels,
            calls=calls,
            kv=KeyValues(calls, self._revisions),
            leases=leases,
            alarms=alarms,
            running=(
                start(leases.run(), "etcd keepalive"),
                start(alarms.run(), "etcd alarms"),
                start(channels.follow_tls(self._tls_interval_s), "etcd TLS files"),
            ),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        parts = self._open()
        self._parts = None
        for task in parts.running:
            task.cancel()
        parts.channels.close()
        # The body's own error leaves as it is, and not in a group.
        cancelled = isinstance(error, asyncio.CancelledError)
        await parts.tasks.__aexit__(*((kind, error, trace) if cancelled else (None, None, None)))

    async def read(self, *gets: Get, timeout: float | None = None) -> Reading:
        """Read several keys and ranges in one linearizable transaction."""
        return await self._open().kv.read(gets, self._timeout(timeout))

    async def write(
        self,
        *writes: Write,
        when: Sequence[Compare] = (),
        otherwise: Sequence[Get] = (),
        timeout: float | None = None,
    ) -> Outcome:
        """Write all if every compare holds, else nothing (and read `otherwise`)."""
        parts = self._open()
        try:
            return await parts.kv.write(writes, when, otherwise, self._timeout(timeout))
        except StoreFull:
            parts.alarms.full = True
            raise

    async def grant(self, lease: int, ttl_s: int, *, timeout: float | None = None) -> int:
        """Grant a lease under an id of the caller's choosing; returns the granted TTL."""
        parts = self._open()
        try:
            return await parts.leases.grant(lease, ttl_s, self._timeout(timeout))
        except StoreFull:
            parts.alarms.full = True
            raise

    async def renew(self, lease: int, *, timeout: float | None = None) -> int:
        """Renew; returns the TTL in seconds, or 0 if the lease has ended."""
        return await self._open().leases.renew(lease, self._timeout(timeout))

    async def revoke(self, lease: int, *, timeout: float | None = None) -> None:
        """End a lease, with its keys; an unknown lease is no error."""
        await self._open().leases.revoke(lease, self._timeout(timeout))

    def watch(self, prefix: str) -> AbstractAsyncContextManager[AsyncIterator[WatchUpdate]]:
        """A snapshot of all keys under the prefix, then every change, without a gap."""
        return self._watch(prefix)

    def full(self) -> bool:
        """True while etcd is known to refuse writes for want of space."""
        return self._open().alarms.full

    def corrupt(self) -> bool:
        """True while etcd says that its members' data differ."""
        return self._open().alarms.corrupt

    def size_bytes(self) -> int:
        """Return the size of etcd's database, as read last (0: not yet)."""
        return self._open().alarms.size_bytes

    @asynccontextmanager
    async def _watch(self, prefix: str) -> AsyncGenerator[AsyncIterator[WatchUpdate], None]:
        parts = self._open()
        watch = Watch(prefix, parts.channels, parts.kv, self._revisions)
        async with background(parts.tasks, watch.run(parts.tasks), f"etcd watch {prefix}"):
            yield watch

    def _open(self) -> _Parts:
        if self._parts is None:
            raise StoreUnreachable("the store is used outside of its scope")
        return self._parts

    def _timeout(self, timeout: float | None) -> float:
        return self._timeout_s if timeout is None else timeout
