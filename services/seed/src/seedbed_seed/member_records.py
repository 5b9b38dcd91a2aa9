"""Workers' records in the store: read, and rewritten under a guard.

A write is sent once; one whose answer was lost is resolved by reading. Nothing is written over a
record that has changed in a way that matters: each change looks at the record first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from seedbed.errors import ProtocolError
from seedbed.v1 import store_pb2
from seedbed_seed.records import Keys, parse_record
from seedbed_seed.store import (
    Delete,
    Entry,
    Get,
    LeaseNotFound,
    Modified,
    Put,
    Store,
    StoreError,
    StoreFull,
    WriteInDoubt,
)

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Guarded writes of one record that may lose to others' (marks, statuses) beside them."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The record stands, under this lease, and names this stream."""

    node_id: str
    incarnation: str
    stream_id: str
    host: str
    port: int
    lease: int
    ttl_ms: int
    secret: bytes
    resumed: bool
    cluster_uid: str = ""
    """For a worker with a journal."""
    shard_counts: Mapping[str, int] = field(default_factory=dict[str, int])
    """Of its types."""


Change = Callable[[store_pb2.MemberRecord], bool]
"""Edits the record, or says False if it must stay as it is."""


class MemberRecords:
    """Each store call ends within `step_s`, with an answer or a `StoreError`."""

    def __init__(self, store: Store, keys: Keys, step_s: float) -> None:
        self.store = store
        self.keys = keys
        self.step_s = step_s

    async def read(self, node_id: str) -> tuple[Entry, store_pb2.MemberRecord] | None:
        """The record of this node as it is now; one that does not parse is a `StoreError`."""
        reading = await self.store.read(Get(self.keys.worker(node_id)), timeout=self.step_s)
        entry = next(iter(reading.answers[0]), None)
        return (entry, _parse(entry)) if entry is not None else None

    async def rewrite(
        self, node_id: str, change: Change, is_done: Change, seen: Entry | None = None
    ) -> int | None:
        """Change the record; returns its new revision, or None if `change` would not have it.

        `is_done` tells from a later reading whether a write in doubt, or one for which etcd says
        that it is full, was carried out. `seen` is the record as it was lately: it saves the
        reading before the write.
        """
        known = (seen, _parse(seen)) if seen is not None else None
        if known is None or not change(known[1]):
            known = await self.read(node_id)
            if known is None or not change(known[1]):
                return None
        for _ in range(ATTEMPTS):
            entry, record = known
            put = Put(entry.key, record.SerializeToString(), lease=record.lease_id)
            guard = Modified(entry.key, entry.mod_revision)
            try:
                outcome = await self.store.write(
                    put, when=[guard], otherwise=[Get(entry.key)], timeout=self.step_s
                )
            except LeaseNotFound:
                return None
            except (WriteInDoubt, StoreFull) as error:
                known = await self.read(node_id)
                if known is not None and is_done(known[1]):
                    return known[0].mod_revision
                if isinstance(error, StoreFull):
                    raise  # not written, nor would another one be
            else:
                if outcome.succeeded:
                    return outcome.revision
                now = next(iter(outcome.answers[0]), None)
                known = (now, _parse(now)) if now is not None else None
            if known is None or not change(known[1]):
                return None
        raise StoreError(f"record of {node_id}: {ATTEMPTS} writes lost to others'")

    async def set_status(
        self,
        joined: Joined,
        status: store_pb2.MemberStatus.ValueType,
        before: Collection[store_pb2.MemberStatus.ValueType],
    ) -> bool:
        """Move the member on to a status, if its record still names this stream."""

        def change(record: store_pb2.MemberRecord) -> bool:
            if not names(record, joined) or record.member.status not in before:
                return False
            record.member.status = status
            return True

        def is_done(record: store_pb2.MemberRecord) -> bool:
            return names(record, joined) and record.member.status == status

        return await self.rewrite(joined.node_id, change, is_done) is not None

    async def mark(self, joined: Joined, age_ms: Callable[[], int]) -> int | None:
        """Mark the member silent, if its record still names this stream; the mark's revision."""

        def change(record: store_pb2.MemberRecord) -> bool:
            if not names(record, joined) or record.member.status == store_pb2.MEMBER_STATUS_LEFT:
                return False
            record.silent.age_ms = min(age_ms(), record.lease_ttl_ms)
            return True

        def is_done(record: store_pb2.MemberRecord) -> bool:
            return names(record, joined) and record.HasField("silent")

        return await self.rewrite(joined.node_id, change, is_done)

    async def delete(self, joined: Joined, revision: int) -> bool:
        """Delete the record if it is still as it was at this revision, then end its lease."""
        key = self.keys.worker(joined.node_id)
        guard = Modified(key, revision)
        outcome = await self.store.write(Delete(key), when=[guard], timeout=self.step_s)
        if outcome.succeeded:
            await self.store.revoke(joined.lease, timeout=self.step_s)
        return outcome.succeeded


def _parse(entry: Entry) -> store_pb2.MemberRecord:
    try:
        return parse_record(entry.value)
    except ProtocolError as error:
        raise StoreError(f"{entry.key}: {error}") from error


def names(record: store_pb2.MemberRecord, joined: Joined) -> bool:
    """Whether the record is this incarnation's, renewed by this stream."""
    return record.member.incarnation == joined.incarnation and record.stream_id == joined.stream_id
