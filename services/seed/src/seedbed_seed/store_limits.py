"""Limits that etcd puts on one transaction; both adapters refuse the same, and send nothing."""

from __future__ import annotations

from collections.abc import Sequence

from seedbed_seed.store import Compare, Get, Put, StoreError, Write

MAX_OPS = 128
"""Compares, writes and reads of one transaction, each counted for itself (etcd's default)."""

MAX_REQUEST_BYTES = 1_500_000
"""Keys and values of one transaction, a little under etcd's 1.5 MiB, which counts framing too."""


def check_reads(gets: Sequence[Get]) -> None:
    """Raise `StoreError` if one transaction cannot hold these reads."""
    if not gets:
        raise StoreError("a read names at least one key")
    _check_count("reads", len(gets))


def check_write(writes: Sequence[Write], when: Sequence[Compare], otherwise: Sequence[Get]) -> None:
    """Raise `StoreError` if one transaction cannot hold this."""
    _check_count("writes", len(writes))
    _check_count("compares", len(when))
    _check_count("reads", len(otherwise))
    written = [write.key for write in writes]
    if len(set(written)) != len(written):
        raise StoreError("a transaction writes a key at most once")
    if not all(written):
        raise StoreError("a key is not empty")
    size = sum(
        len(write.key.encode()) + (len(write.value) if isinstance(write, Put) else 0)
        for write in writes
    )
    if size > MAX_REQUEST_BYTES:
        raise StoreError(f"a transaction of {size} bytes is over the limit of {MAX_REQUEST_BYTES}")


def _check_count(what: str, count: int) -> None:
    if count > MAX_OPS:
        raise StoreError(f"{count} {what} in one transaction: at most {MAX_OPS}")
