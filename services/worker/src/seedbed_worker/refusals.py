"""The errors with which calls are refused before anything runs."""

from __future__ import annotations

from zlib import crc32

from google.protobuf.empty_pb2 import Empty

from seedbed.calls import EntityCall, Failed
from seedbed.contract import MethodContract
from seedbed.errors import CallError, Reason
from seedbed.keys import KeyKind, KeyPath, canonical
from seedbed.routing import CHUNK
from seedbed.status import failed
from seedbed_worker.core.region import Region
from seedbed_worker.hosted import HostedMethod

_RETRY_AFTER_S = 0.1


def full(what: str, setting: str, limit: int) -> CallError:
    """A limit is reached."""
    message = f"{what} has {limit} calls already ({setting}); nothing ran, try again later"
    return CallError(Reason.OVERLOADED, message, retry_after_s=_RETRY_AFTER_S)


def all_busy(entities: int) -> CallError:
    """No entity can leave memory for another one."""
    message = (
        f"all {entities} entities are busy (SEEDBED_MAX_ENTITIES); nothing ran, try again later"
    )
    return CallError(Reason.OVERLOADED, message, retry_after_s=_RETRY_AFTER_S)


def wrong_shard(call: EntityCall) -> CallError:
    """A router counts shards in another way; two owners of one entity must not come of it."""
    message = f"the key of this call does not belong to shard {call.shard} of type {call.type}"
    return CallError(Reason.BAD_REQUEST, message)


def lost() -> CallError:
    """The shard went to another owner, or the lease ended, under a turn."""
    return CallError(Reason.FENCED, "the shard was lost while the call ran")


def refenced() -> CallError:
    """Another process has fenced the shard, which is this worker's all the same."""
    message = "not kept, since the journal was fenced anew; nothing was acknowledged"
    return CallError(Reason.STORE_UNAVAILABLE, message, retry_after_s=_RETRY_AFTER_S)


def check_shard(region: Region, call: EntityCall, kind: KeyKind) -> None:
    """Raise `CallError` unless the call's key lies in its shard."""
    table = region.view.tables.get((call.type, call.shard // CHUNK))
    if table is None or crc32(canonical(call.key, kind)) % table.shard_count != call.shard:
        raise wrong_shard(call)


def not_implemented(method: str) -> Failed:
    """What answers a call of a method that this class does not have."""
    return failed(
        CallError(Reason.UNKNOWN_METHOD, f"{method} is not implemented by the worker that owns it")
    )


def unknown_method(call: EntityCall) -> HostedMethod:
    """Stands for a method that the class does not have: only the shard's owner refuses it."""
    key = KeyPath((1,), KeyKind.STRING, presence=False)
    name = call.method.rpartition("/")[2]
    contract = MethodContract(
        name, call.method, key, server_streaming=False, repeatable=False, read_only=True
    )
    return HostedMethod(contract, Empty, Empty)
