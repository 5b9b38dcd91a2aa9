"""What the seed needs of a store: a small port with two adapters (`etcd`, `memory_store`).

Semantics are etcd's: one revision for the whole store, rising with every change; a key knows the
revision that created it and the one that changed it last; a lease that ends takes its keys with it.
One contract suite (`tests/contract/test_store.py`) runs both adapters.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from seedbed.errors import SeedbedError


class StoreError(SeedbedError):
    """Any failure of the store."""


class StoreUnreachable(StoreError):
    """No answer in time, and nothing was sent that could have been carried out (reads too)."""


class WriteInDoubt(StoreError):
    """The answer to a write was lost: it may have been carried out. Resolve by reading."""


class StoreFull(StoreError):
    """The store refuses writes for want of space (etcd's NOSPACE alarm).

    The write (or grant) may have been carried out: etcd looks at its quota when it takes a request,
    and again when it applies it; then it applies it first, and refuses it afterwards. Resolve by
    reading. Deletes, revokes and renewals still work.
    """


class LeaseExists(StoreError):
    """A lease of this id is already granted."""


class LeaseNotFound(StoreError):
    """The lease has ended (or never was)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key with its value, revisions and lease (0: none).

    Read keys-only it has neither value nor lease (etcd 3.7 keeps the lease beside the value).
    """

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Created:
    """Compare: the key's create revision is (or, with `equal=False`, is not) this; 0 is absent."""

    key: str
    revision: int
    equal: bool = True


@dataclass(frozen=True, slots=True)
class Modified:
    """Compare: the key was last changed at this revision."""

    key: str
    revision: int


Compare: TypeAlias = Created | Modified


@dataclass(frozen=True, slots=True)
class Put:
    """Write a value, attached to a lease (0: none)."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    key: str


Write: TypeAlias = Put | Delete


@dataclass(frozen=True, slots=True)
class Get:
    """Read one key, or with `prefix=True` all keys that begin with it."""

    key: str
    prefix: bool = False
    keys_only: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """Answers of one linearizable transaction, in the order of the gets, and its revision."""

    revision: int
    answers: tuple[tuple[Entry, ...], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a guarded write did; `answers` are those of `otherwise`, read if the compares failed."""

    succeeded: bool
    revision: int
    answers: tuple[tuple[Entry, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Changed:
    """A key was written."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Removed:
    """A key was deleted, or its lease ended; `last` is what it held (None if unknown)."""

    key: str
    revision: int
    last: Entry | None


Change: TypeAlias = Changed | Removed


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys under the prefix at one revision. First of a watch, and again after a gap.

    `restored` is True if the store's revision fell: it was rebuilt from a backup, and whatever
    was known before may never have been.
    """

    revision: int
    entries: tuple[Entry, ...]
    restored: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """All changes of one or more whole revisions, in order, up to `revision`; may be empty
    (progress: nothing changed up to there)."""

    revision: int
    changes: tuple[Change, ...] = field(default=())


WatchUpdate: TypeAlias = Snapshot | Changes


class Store(Protocol):
    """Reads are linearizable and may be repeated by the adapter; writes are sent at most once.

    Every call ends within `timeout` seconds (None: the adapter's default) with an answer or a
    `StoreError`.
    """

    async def read(self, *gets: Get, timeout: float | None = None) -> Reading:
        """Read several keys and ranges in one transaction."""
        ...

    async def write(
        self,
        *writes: Write,
        when: Sequence[Compare] = (),
        otherwise: Sequence[Get] = (),
        timeout: float | None = None,
    ) -> Outcome:
        """Write all if every compare holds, else nothing (and read `otherwise`).

        Raises `WriteInDoubt` if the answer was lost, `LeaseNotFound` if a put names an ended
        lease, `StoreFull` if the store is out of space (the write may have been carried out all
        the same), `StoreUnreachable` if nothing was sent.
        """
        ...

    async def grant(self, lease: int, ttl_s: int, *, timeout: float | None = None) -> int:
        """Grant a lease under an id of our choosing; returns the granted TTL in seconds."""
        ...

    async def renew(self, lease: int, *, timeout: float | None = None) -> int:
        """Renew; returns the TTL in seconds, or 0 if the lease has ended.

        The answer belongs to a renewal sent after this call began, never to an earlier one.
        """
        ...

    async def revoke(self, lease: int, *, timeout: float | None = None) -> None:
        """End a lease, with its keys; an unknown lease is no error."""
        ...

    def watch(self, prefix: str) -> AbstractAsyncContextManager[AsyncIterator[WatchUpdate]]:
        """A snapshot of all keys under the prefix, then every change, without a gap.

        Reconnects by itself; the iterator ends only with its scope. Progress (`Changes` without
        changes) comes at least every few seconds while the store can be reached.
        """
        ...

    def full(self) -> bool:
        """True while the store is known to refuse writes for want of space."""
        ...
