"""From etcd's answers to the errors of the `Store` port: one table for reads, one for writes."""

from __future__ import annotations

import grpc
import grpc.aio

from seedbed_seed.store import (
    LeaseExists,
    LeaseNotFound,
    StoreError,
    StoreFull,
    StoreUnreachable,
    WriteInDoubt,
)


class Compacted(StoreError):
    """A read named a revision that is no longer kept."""


_ANSWER_LOST = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
    }
)
"""Codes after which a request may have been carried out, or not (CANCELLED: a reset stream)."""

_NOT_TAKEN = ("etcdserver: no leader", "etcdserver: too many requests")
"""Refusals that etcd gives before it proposes the request to its peers."""

_REFUSALS: dict[str, type[StoreError]] = {
    "etcdserver: mvcc: database space exceeded": StoreFull,
    "etcdserver: requested lease not found": LeaseNotFound,
    "etcdserver: lease already exists": LeaseExists,
    "etcdserver: mvcc: required revision has been compacted": Compacted,
}


def lost(error: grpc.aio.AioRpcError) -> bool:
    """Tell whether the member gave no answer of its own: another one may do better."""
    return error.code() in _ANSWER_LOST or (error.details() or "").startswith(_NOT_TAKEN)


def read_error(error: grpc.aio.AioRpcError) -> StoreError:
    """Map the failure of something that changes nothing."""
    return StoreUnreachable(_text(error)) if lost(error) else _refusal(error)


def write_error(error: grpc.aio.AioRpcError) -> StoreError:
    """Map the failure of a request that was sent and may have changed something."""
    if (error.details() or "").startswith(_NOT_TAKEN):
        return StoreUnreachable(_text(error))
    return WriteInDoubt(_text(error)) if lost(error) else _refusal(error)


def _refusal(error: grpc.aio.AioRpcError) -> StoreError:
    for text, kind in _REFUSALS.items():
        if (error.details() or "").startswith(text):
            return kind(_text(error))
    return StoreError(_text(error))


def _text(error: grpc.aio.AioRpcError) -> str:
    return f"{error.code().name}: {error.details()}"
