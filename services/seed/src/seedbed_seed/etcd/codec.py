"""Between the port's dataclasses and etcd's messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import assert_never

from seedbed_seed.etcd import wire_pb2 as wire
from seedbed_seed.store import Compare, Created, Delete, Entry, Get, Modified, Put, Write


def range_end(prefix: bytes) -> bytes:
    """Return the first key after all that begin with the prefix."""
    shortened = prefix.rstrip(b"\xff")
    return shortened[:-1] + bytes([shortened[-1] + 1]) if shortened else b"\0"


def key_range(prefix: str) -> tuple[bytes, bytes]:
    """Return etcd's `key` and `range_end` for all keys under the prefix."""
    key = prefix.encode() or b"\0"
    return key, range_end(prefix.encode())


def name(key: bytes) -> str:
    """Return a key as text; a stranger's key may be no UTF-8."""
    return key.decode(errors="surrogateescape")


def entry(kv: wire.KeyValue) -> Entry:
    """Return etcd's key and value as an entry."""
    return Entry(name(kv.key), kv.value, kv.create_revision, kv.mod_revision, kv.lease)


def entries(kvs: Iterable[wire.KeyValue]) -> tuple[Entry, ...]:
    """Return the entries of one range."""
    return tuple(entry(kv) for kv in kvs)


def answers(
    gets: Iterable[Get], responses: Iterable[wire.ResponseOp]
) -> tuple[tuple[Entry, ...], ...]:
    """Return the answers of a transaction of these reads."""
    return tuple(
        _bare(response.response_range.kvs)
        if get.keys_only
        else entries(response.response_range.kvs)
        for get, response in zip(gets, responses, strict=True)
    )


def _bare(kvs: Iterable[wire.KeyValue]) -> tuple[Entry, ...]:
    """Return entries read keys-only: etcd leaves out leases from 3.7 on, so nobody gets them."""
    return tuple(Entry(name(kv.key), b"", kv.create_revision, kv.mod_revision) for kv in kvs)


def transaction(
    writes: Sequence[Write], when: Sequence[Compare], otherwise: Sequence[Get]
) -> wire.TxnRequest:
    """Return the guarded write."""
    return wire.TxnRequest(
        compare=[_compare(compare) for compare in when],
        success=[_write(write) for write in writes],
        failure=[_get(get) for get in otherwise],
    )


def reading(gets: Sequence[Get]) -> wire.TxnRequest:
    """Return the transaction of reads (etcd serves it linearizably, without a log entry)."""
    return wire.TxnRequest(success=[_get(get) for get in gets])


def _get(get: Get) -> wire.RequestOp:
    key, end = key_range(get.key) if get.prefix else (get.key.encode(), b"")
    return wire.RequestOp(
        request_range=wire.RangeRequest(key=key, range_end=end, keys_only=get.keys_only)
    )


def _write(write: Write) -> wire.RequestOp:
    match write:
        case Put(key, value, lease):
            return wire.RequestOp(
                request_put=wire.PutRequest(key=key.encode(), value=value, lease=lease)
            )
        case Delete(key):
            return wire.RequestOp(request_delete_range=wire.DeleteRangeRequest(key=key.encode()))
        case _:
            assert_never(write)


def _compare(compare: Compare) -> wire.Compare:
    match compare:
        case Created(key, revision, equal):
            return wire.Compare(
                result=wire.Compare.EQUAL if equal else wire.Compare.NOT_EQUAL,
                target=wire.Compare.CREATE,
                key=key.encode(),
                create_revision=revision,
            )
        case Modified(key, revision):
            return wire.Compare(
                result=wire.Compare.EQUAL,
                target=wire.Compare.MOD,
                key=key.encode(),
                mod_revision=revision,
            )
        case _:
            assert_never(compare)
