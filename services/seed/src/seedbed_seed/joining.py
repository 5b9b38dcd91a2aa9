"""From a Hello to a member record: a new incarnation's join, and a running one's resume.

Every write is guarded and sent once; one whose answer was lost is resolved by reading whether the
record is ours.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

from seedbed.errors import CallError, Reason
from seedbed.routing import Owner
from seedbed.settings import NAME, NAME_RULE
from seedbed.v1 import cluster_pb2, store_pb2
from seedbed_seed.contracts import Contracts
from seedbed_seed.evidence import Dialler, Identified, Silence, is_literal
from seedbed_seed.journal_pin import JournalPin
from seedbed_seed.member_records import Joined, MemberRecords
from seedbed_seed.records import record_of, secret_hash
from seedbed_seed.routes import PROTOCOL
from seedbed_seed.store import (
    Created,
    LeaseExists,
    Put,
    StoreError,
    StoreFull,
    WriteInDoubt,
)

log = logging.getLogger(__name__)

DIAL_S = 0.5
"""How long the address of an earlier incarnation may take to answer a Hello's question."""

GRANTS = 3
"""Lease ids that are tried."""

ID_CHARACTERS = 128
"""Longest incarnation, stream id, version or zone."""


class Joining:
    """Decides on Hellos: a refusal is a `CallError`, a store in trouble a `StoreError`."""

    def __init__(
        self,
        *,
        records: MemberRecords,
        contracts: Contracts,
        pin: JournalPin,
        dialler: Dialler,
        ttl_s: int,
        owners: Callable[[], Iterable[Owner]],
        token: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._records = records
        self._store = records.store
        self._keys = records.keys
        self._step_s = records.step_s
        self._contracts = contracts
        self._pin = pin
        self._dialler = dialler
        self._ttl_s = ttl_s
        self._owners = owners
        self._token = token

    async def join(self, hello: cluster_pb2.Hello) -> Joined:
        """Admit the sender of this Hello."""
        check_hello(hello, self._keys.cluster)
        counts = await self._contracts.register(hello.types)
        uid = await self._pin.admit(hello)
        if hello.HasField("resume"):
            joined = await self._resume(hello)
        else:
            joined = await self._enter(hello)
            if uid:
                await self._admit_again(hello, joined)
        return replace(joined, cluster_uid=uid, shard_counts=counts)

    async def _admit_again(self, hello: cluster_pb2.Hello, joined: Joined) -> None:
        """Its record was written after the pin was read: another may have been pinned meanwhile."""
        try:
            await self._pin.admit(hello)
        except CallError:
            await self._store.revoke(joined.lease, timeout=self._step_s)
            raise

    async def _resume(self, hello: cluster_pb2.Hello) -> Joined:
        shown = secret_hash(hello.resume.secret)
        seen: list[store_pb2.MemberRecord] = []

        def may_resume(record: store_pb2.MemberRecord) -> bool:
            seen[:] = [record]
            return (
                record.member.incarnation == hello.incarnation
                and record.lease_id == hello.resume.lease_id
                and secrets.compare_digest(record.secret_hash, shown)
                and record.member.status
                not in (store_pb2.MEMBER_STATUS_LEFT, store_pb2.MEMBER_STATUS_DOWN)
            )

        def name_stream(record: store_pb2.MemberRecord) -> bool:
            if not may_resume(record):
                return False
            record.stream_id = hello.stream_id
            record.ClearField("silent")
            return True

        revision = await self._records.rewrite(
            hello.node_id, name_stream, lambda record: record.stream_id == hello.stream_id
        )
        if revision is None:
            raise CallError(
                Reason.FENCED,
                f"node {hello.node_id} has no lease {hello.resume.lease_id:x} of this incarnation"
                " and secret any more: fence, and join as a new incarnation",
            )
        return Joined(
            node_id=hello.node_id,
            incarnation=hello.incarnation,
            stream_id=hello.stream_id,
            host=hello.host,
            port=hello.port,
            lease=hello.resume.lease_id,
            ttl_ms=seen[0].lease_ttl_ms,
            secret=hello.resume.secret,
            resumed=True,
        )

    async def _enter(self, hello: cluster_pb2.Hello) -> Joined:
        known = await self._records.read(hello.node_id)
        if known is None:
            replaced = await self._owner_replaced(hello)
        else:
            _, old = known
            replaced = await self._may_replace(hello, old)
            # Its record goes with it; a transaction cannot end leases.
            await self._store.revoke(old.lease_id, timeout=self._step_s)
        lease, ttl_s = await self._grant()
        secret = self._token(16)
        record = record_of(
            hello, lease=lease, ttl_ms=ttl_s * 1000, secret=secret, replaced=replaced
        )
        if not await self._create(record):
            await self._store.revoke(lease, timeout=self._step_s)
            raise _name_taken(hello, self._ttl_s, "another process has just joined under it")
        return Joined(
            node_id=hello.node_id,
            incarnation=hello.incarnation,
            stream_id=hello.stream_id,
            host=hello.host,
            port=hello.port,
            lease=lease,
            ttl_ms=ttl_s * 1000,
            secret=secret,
            resumed=False,
        )

    async def _may_replace(self, hello: cluster_pb2.Hello, old: store_pb2.MemberRecord) -> str:
        """Raises `NAME_TAKEN` unless the old incarnation is gone; returns it if that is proved."""
        member = old.member
        if hello.HasField("replace") and hello.replace.incarnation == member.incarnation:
            shown = secret_hash(hello.replace.secret)
            if secrets.compare_digest(old.secret_hash, shown):
                return member.incarnation
        if member.status == store_pb2.MEMBER_STATUS_LEFT:
            return member.incarnation
        if member.incarnation == hello.incarnation:
            # Incarnations are public: without the secret this could be anyone.
            raise _name_taken(
                hello, self._ttl_s, "this incarnation has a lease; resume it, or take a new id"
            )
        match await self._dialler.dial(member.host, member.port, DIAL_S):
            case Silence.UNKNOWN:
                raise _name_taken(
                    hello,
                    self._ttl_s,
                    f"incarnation {member.incarnation} at {member.host}:{member.port} may be alive",
                )
            case Identified(_, incarnation) if incarnation == member.incarnation:
                raise _name_taken(
                    hello,
                    self._ttl_s,
                    f"another process at {member.host}:{member.port} has it: give one of them"
                    " another SEEDBED_NODE_ID",
                )
            case Identified(_, incarnation):
                # The same literal address, and the newcomer holds it: the old listener is gone.
                same_place = (hello.host, hello.port) == (member.host, member.port)
                held_by_newcomer = incarnation == hello.incarnation
                proved = same_place and held_by_newcomer and is_literal(member.host)
                return member.incarnation if proved else ""
            case Silence.REFUSED:
                return ""

    async def _owner_replaced(self, hello: cluster_pb2.Hello) -> str:
        """The owner whose record is gone already and whose place the newcomer holds, if any."""
        for owner in self._owners():
            same_place = (owner.host, owner.port) == (hello.host, hello.port)
            if owner.node_id == hello.node_id and same_place and is_literal(owner.host):
                match await self._dialler.dial(hello.host, hello.port, DIAL_S):
                    case Identified(_, incarnation) if incarnation == hello.incarnation:
                        return owner.incarnation
                    case _:
                        return ""
        return ""

    async def _grant(self) -> tuple[int, int]:
        for _ in range(GRANTS):
            lease = int.from_bytes(self._token(8), "big") >> 1 or 1
            try:
                return lease, await self._store.grant(lease, self._ttl_s, timeout=self._step_s)
            except (LeaseExists, WriteInDoubt):
                continue  # another id; one that was granted after all ends by itself
        raise StoreError(f"no lease in {GRANTS} attempts")

    async def _create(self, record: store_pb2.MemberRecord) -> bool:
        key = self._keys.worker(record.member.node_id)
        put = Put(key, record.SerializeToString(), lease=record.lease_id)
        try:
            outcome = await self._store.write(put, when=[Created(key, 0)], timeout=self._step_s)
        except WriteInDoubt:
            known = await self._records.read(record.member.node_id)
            if known is None:
                # Were it carried out late, it would fail with its lease.
                await self._store.revoke(record.lease_id, timeout=self._step_s)
                raise StoreError("the record was not written") from None
            return known[1].lease_id == record.lease_id
        except StoreFull:
            # It may be there all the same, with a secret that nobody will know: the name would be
            # taken for a TTL. A full store still ends leases.
            with suppress(StoreError):
                await self._store.revoke(record.lease_id, timeout=self._step_s)
            raise
        return outcome.succeeded


def check_hello(hello: cluster_pb2.Hello, cluster: str) -> None:
    """Raise `CallError` for a Hello that this seed cannot take."""
    if not hello.protocol_min <= PROTOCOL <= hello.protocol_max:
        raise CallError(
            Reason.PROTOCOL,
            f"this seed speaks protocol {PROTOCOL}, the worker {hello.protocol_min} to"
            f" {hello.protocol_max}: upgrade the older one (seeds first)",
        )
    if hello.cluster != cluster:
        raise CallError(
            Reason.INCOMPATIBLE,
            f"this seed is of cluster {cluster!r}, the worker of {hello.cluster!r}: compare"
            " SEEDBED_CLUSTER and SEEDBED_SEEDS",
        )
    for field, text in (("node_id", hello.node_id), *(("role", role) for role in hello.roles)):
        if not NAME.fullmatch(text):
            raise CallError(Reason.INCOMPATIBLE, f"{field} {text[:80]!r}: expected {NAME_RULE}")
    for field, text in (("incarnation", hello.incarnation), ("stream_id", hello.stream_id)):
        if not 0 < len(text) <= ID_CHARACTERS:
            raise CallError(
                Reason.INCOMPATIBLE, f"{field}: expected 1 to {ID_CHARACTERS} characters"
            )
    journal = hello.journal
    names = (journal.journal_id, journal.timeline)
    if hello.HasField("journal") and not all(0 < len(name) <= ID_CHARACTERS for name in names):
        raise CallError(
            Reason.INCOMPATIBLE, f"journal and timeline: expected 1 to {ID_CHARACTERS} characters"
        )
    if not hello.host or len(hello.host) > 255 or not 0 < hello.port < 65536:
        raise CallError(
            Reason.INCOMPATIBLE, f"address {hello.host[:80]!r}:{hello.port}: not one to dial"
        )


def _name_taken(hello: cluster_pb2.Hello, retry_after_s: float, why: str) -> CallError:
    return CallError(
        Reason.NAME_TAKEN, f"node id {hello.node_id!r}: {why}", retry_after_s=retry_after_s
    )
