"""This seed's own lease and its member record: taken, kept, taken anew when lost, given back."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress

from seedbed.clock import Clock
from seedbed.errors import SeedbedError
from seedbed.v1 import store_pb2
from seedbed_seed.records import Keys, parse_record
from seedbed_seed.store import (
    Compare,
    Created,
    Get,
    Modified,
    Put,
    Store,
    StoreError,
    StoreFull,
    StoreUnreachable,
    WriteInDoubt,
)

log = logging.getLogger(__name__)

LEAVE_S = 1.0
"""For each reading and write of a seed that stops."""


class LeaseLost(SeedbedError):
    """The seed's lease has ended, or may have."""


class SeedLease:
    """One at a time. `member` is what the record says of this seed."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        keys: Keys,
        member: store_pb2.Member,
        ttl_s: int,
        token: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._store = store
        self._clock = clock
        self._key = keys.seed(member.node_id)
        self._member = member
        self._ttl_s = ttl_s
        self._token = token
        self._lease = 0
        self._granted_s = ttl_s
        self._good_until_ns = 0

    async def enter(self) -> int:
        """Take a lease and write the record under it; returns the lease's id."""
        reading = await self._store.read(Get(self._key))
        guard: Compare = Created(self._key, 0)
        for entry in reading.answers[0]:
            self._refuse_stranger(entry.value)
            guard = Modified(self._key, entry.mod_revision)
        lease = int.from_bytes(self._token(8), "big") >> 1 or 1
        began_ns = self._clock.now_ns()
        self._granted_s = await self._store.grant(lease, self._ttl_s)
        self._good_until_ns = began_ns + self._granted_s * 1_000_000_000
        record = store_pb2.MemberRecord(
            member=self._member, lease_id=lease, lease_ttl_ms=self._granted_s * 1000
        )
        put = Put(self._key, record.SerializeToString(), lease=lease)
        try:
            outcome = await self._store.write(put, when=[guard])
            written = outcome.succeeded
        except (WriteInDoubt, StoreFull) as error:
            reading = await self._store.read(Get(self._key))
            written = any(entry.lease == lease for entry in reading.answers[0])
            if not written and isinstance(error, StoreFull):
                raise
        if not written:
            raise StoreError(f"{self._key} was written by another seed")
        self._lease = lease
        return lease

    async def keep(self) -> None:
        """Renew until the lease is lost, then raise `LeaseLost`."""
        period_s = self._granted_s / 3
        while True:
            await asyncio.sleep(period_s)
            began_ns = self._clock.now_ns()
            try:
                ttl_s = await self._store.renew(self._lease, timeout=period_s)
            except StoreError as error:
                if self._clock.now_ns() >= self._good_until_ns:
                    raise LeaseLost(f"not renewed for a TTL: {error}") from error
                continue
            if ttl_s <= 0:
                raise LeaseLost("it has ended")
            self._good_until_ns = began_ns + ttl_s * 1_000_000_000

    async def drain(self) -> None:
        """Say that this seed is about to leave, if the store answers in time."""
        # Also in a record that is written anew from now on.
        self._member.status = store_pb2.MEMBER_STATUS_DRAINING
        await self._say(store_pb2.MEMBER_STATUS_DRAINING)

    async def leave(self) -> None:
        """Say that this seed left, and end the lease, if the store answers in time."""
        await self._say(store_pb2.MEMBER_STATUS_LEFT)
        if self._lease:
            with suppress(StoreError):
                await self._store.revoke(self._lease, timeout=LEAVE_S)
        self._lease = 0

    async def _say(self, status: store_pb2.MemberStatus.ValueType) -> None:
        if not self._lease:
            return
        with suppress(StoreError):
            reading = await self._store.read(Get(self._key), timeout=LEAVE_S)
            for entry in reading.answers[0]:
                if entry.lease != self._lease:
                    continue
                record = parse_record(entry.value)
                record.member.status = status
                put = Put(self._key, record.SerializeToString(), lease=self._lease)
                guard = Modified(self._key, entry.mod_revision)
                await self._store.write(put, when=[guard], timeout=LEAVE_S)

    def _refuse_stranger(self, value: bytes) -> None:
        """Two seeds of one name would write over each other for ever; a restart may."""
        other = parse_record(value).member
        mine = self._member
        if other.incarnation == mine.incarnation:
            return
        if other.status == store_pb2.MEMBER_STATUS_LEFT:
            return
        if (other.host, other.port) != (mine.host, mine.port):
            log.error(
                "seed name taken",
                extra={"node": mine.node_id, "by": f"{other.host}:{other.port}"},
            )
            raise StoreUnreachable(
                f"another seed is called {mine.node_id}, at {other.host}:{other.port}: give one of"
                " them another SEEDBED_NODE_ID, or wait until its lease has ended"
            )
