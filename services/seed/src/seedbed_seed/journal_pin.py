"""Which journal is this cluster's: one, by `ClusterInfo`, which this module alone reads and writes.

A cluster's entities are in one journal, and a journal has the entities of one cluster. Both sides
keep the other's name. The store has the journal's id: the first Hello that shows a journal pins it.
The journal has the cluster's uid, which is random and made with the store's first `ClusterInfo`: a
worker that is welcomed binds its journal to it before it sends a heartbeat, so before it can own
anything. A Hello with another journal than the pinned one, or with one that is bound to another
uid, is refused with `WRONG_JOURNAL`. `seedbed adopt` is for the one case in which both sides are
right and differ: the store was lost, so the uid is new. It pins first and binds then, and does no
harm when it is repeated.

Who meets whom:

- Two workers of one cluster, each with a fresh journal (a SQLite file in another folder, or on
  another machine): both ask to pin, and writes are guarded by the revision that was read. One wins;
  the other reads the winner's id, and is refused. It has bound nothing.
- Two clusters at one fresh journal: both pin it, as neither sees the other's store. Their workers
  then bind it, each in one transaction that also compares, so one cluster wins. The loser's workers
  refuse themselves; its pin, of a journal that is not its own, is in the way of the next one until
  `adopt --force`.
- A worker ends between Welcome and binding: pinned and unbound, so the next one binds it.
- Two seeds make `ClusterInfo`: guarded by its absence, so one uid stands; the other seed reads it.
- A write whose answer was lost is resolved by reading: what it would change is there or not.
- `adopt --force` pins another journal while a worker with the pinned one joins. They cannot miss
  each other: the worker's record is written before the pin is read once more, and the new pin
  before the records are read once more. So the worker is refused, or the operator is told.
- A store that was restored from a backup has the same uid. If it is older than the pin, the next
  worker pins the same journal again, since all are bound to it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from google.protobuf.message import DecodeError

from seedbed.errors import CallError, ProtocolError, Reason
from seedbed.transport import ServerCall
from seedbed.v1 import admin_pb2, cluster_pb2, store_pb2
from seedbed_seed.records import Keys, parse_record
from seedbed_seed.store import (
    Created,
    Entry,
    Get,
    Modified,
    Put,
    Store,
    StoreError,
    StoreFull,
    WriteInDoubt,
)

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""Guarded writes that may lose to other seeds'."""

Edit: TypeAlias = Callable[[store_pb2.ClusterInfo], None]
"""Changes the facts; done twice it changes nothing more. May raise `CallError`."""


class _Known(NamedTuple):
    info: store_pb2.ClusterInfo
    revision: int
    """At which it was as `info` says."""


class JournalPin:
    """Each store call ends within `step_s`. All methods raise `CallError` for a refusal."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        step_s: float,
        new_uid: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._store = store
        self._keys = keys
        self._step_s = step_s
        self._new_uid = new_uid

    async def admit(self, hello: cluster_pb2.Hello) -> str:
        """The cluster's uid, for a worker with the cluster's journal; empty if it needs none.

        Pins its journal if there is no other. Raises a `StoreError` if the store is in trouble.
        """
        journal = hello.journal
        if not hello.HasField("journal"):
            if durable := sorted(one.type for one in hello.types if one.durable):
                raise wrong_journal(
                    f"the worker names no journal, and declares durable types"
                    f" ({', '.join(durable)}): upgrade it"
                )
            return ""

        def edit(info: store_pb2.ClusterInfo) -> None:
            if journal.cluster_uid not in ("", info.uid):
                raise wrong_journal(
                    f"the worker's journal {journal.journal_id} is bound to the cluster uid"
                    f" {journal.cluster_uid}, and this cluster has {info.uid}: if this cluster has"
                    " lost its etcd for good, and no other one uses the journal, bind it to this"
                    " one (`seedbed adopt`); else correct SEEDBED_JOURNAL or SEEDBED_SEEDS"
                )
            if info.journal_id and _is_other(info, journal.journal_id, journal.timeline):
                raise wrong_journal(
                    f"the worker's journal is {_named(journal.journal_id, journal.timeline)}, and"
                    f" this cluster has {_named(info.journal_id, info.journal_timeline)}: all"
                    " workers of a cluster use one journal (SEEDBED_JOURNAL). A sqlite:///./ path"
                    " is another file in every folder and on every machine"
                )
            info.journal_id, info.journal_timeline = journal.journal_id, journal.timeline

        return (await self._change(edit)).info.uid

    async def adopt(
        self, call: ServerCall, asked: admin_pb2.AdoptJournalRequest
    ) -> admin_pb2.AdoptJournalResponse:
        """`Admin.AdoptJournal`: pin this journal, though it is bound to another uid.

        Instead of another one only with `force`, and if no worker is there that may use that.
        """
        if not asked.journal_id or not asked.timeline:
            raise CallError(Reason.BAD_REQUEST, "a journal has an id and a timeline: name both")
        if asked.cluster != self._keys.cluster:
            raise wrong_journal(
                f"the journal belongs to the cluster {asked.cluster!r}, this is"
                f" {self._keys.cluster!r}: compare SEEDBED_CLUSTER and SEEDBED_SEEDS"
            )
        try:
            known = await self._adopt(asked)
        except StoreFull as error:
            raise CallError(Reason.STORE_FULL, f"etcd is full: {error}") from error
        except StoreError as error:
            raise CallError(
                Reason.SEED_NOT_READY,
                f"etcd cannot be asked ({error}): adopt again, which does no harm",
            ) from error
        return admin_pb2.AdoptJournalResponse(
            cluster=self._keys.cluster,
            cluster_uid=known.info.uid,
            journal_id=known.info.journal_id,
        )

    async def _adopt(self, asked: admin_pb2.AdoptJournalRequest) -> _Known:
        replaced = ""
        users = await self._users()

        def edit(info: store_pb2.ClusterInfo) -> None:
            nonlocal replaced
            if info.journal_id not in ("", asked.journal_id):
                if not asked.force:
                    raise wrong_journal(
                        f"this cluster has the journal {info.journal_id}, not {asked.journal_id}:"
                        " correct SEEDBED_JOURNAL; or, if what is in that one is not wanted, stop"
                        " all workers with durable types and give --force"
                    )
                if users:
                    raise wrong_journal(
                        f"workers may use the journal {info.journal_id}: stop"
                        f" {', '.join(users)}, then adopt again"
                    )
                replaced = info.journal_id
            info.journal_id, info.journal_timeline = asked.journal_id, asked.timeline

        known = await self._change(edit)
        if replaced and (late := await self._users(before=known.revision)):
            raise wrong_journal(
                f"{', '.join(late)} joined with the journal {replaced} in this instant: stop it,"
                " then adopt again"
            )
        return known

    async def _users(self, before: int | None = None) -> list[str]:
        """Workers with durable types, or those that came before a revision."""
        get = Get(self._keys.workers, prefix=True)
        reading = await self._store.read(get, timeout=self._step_s)
        users: list[str] = []
        for entry in reading.answers[0]:
            try:
                record = parse_record(entry.value)
            except ProtocolError:
                continue  # the view has logged it; it is given nothing
            if record.member.status == store_pb2.MEMBER_STATUS_LEFT:
                continue
            if before is not None and entry.create_revision >= before:
                continue
            if any(one.durable for one in record.types):
                users.append(record.member.node_id)
        return users

    async def _change(self, edit: Edit) -> _Known:
        """Carry out the edit, and make the facts first if there are none."""
        for _ in range(ATTEMPTS):
            revision, entry, info = await self._read()
            before = info.SerializeToString(deterministic=True)
            if entry is not None:
                edit(info)
            value = info.SerializeToString(deterministic=True)
            if entry is not None and value == before:
                return _Known(info, revision)
            key = self._keys.info
            guard = Created(key, 0) if entry is None else Modified(key, entry.mod_revision)
            try:
                outcome = await self._store.write(
                    Put(key, value), when=[guard], timeout=self._step_s
                )
            except WriteInDoubt:
                continue
            except StoreFull:
                _, entry, info = await self._read()
                if entry is None or info.SerializeToString(deterministic=True) != value:
                    raise
                continue
            if outcome.succeeded and entry is None:
                log.info("cluster uid made", extra={"uid": info.uid})
            elif outcome.succeeded:
                log.info(
                    "journal pinned",
                    extra={"journal": info.journal_id, "timeline": info.journal_timeline},
                )
                return _Known(info, outcome.revision)
        raise StoreError(f"{self._keys.info}: {ATTEMPTS} writes lost to others' or in doubt")

    async def _read(self) -> tuple[int, Entry | None, store_pb2.ClusterInfo]:
        reading = await self._store.read(Get(self._keys.info), timeout=self._step_s)
        entry = next(iter(reading.answers[0]), None)
        if entry is None:
            fresh = store_pb2.ClusterInfo(cluster=self._keys.cluster, uid=self._new_uid())
            return reading.revision, None, fresh
        try:
            return reading.revision, entry, store_pb2.ClusterInfo.FromString(entry.value)
        except DecodeError as error:
            raise StoreError(f"{entry.key}: no ClusterInfo: {error}") from error


def wrong_journal(message: str) -> CallError:
    """A refusal of the journal that somebody shows."""
    return CallError(Reason.WRONG_JOURNAL, message)


def _is_other(info: store_pb2.ClusterInfo, journal_id: str, timeline: str) -> bool:
    return (info.journal_id, info.journal_timeline) != (journal_id, timeline)


def _named(journal_id: str, timeline: str) -> str:
    return f"{journal_id} (timeline {timeline})"
