"""What makes a gRPC service an entity: its type, and per method the key and what it may do.

Read from descriptors by `seedbed.descriptors`, kept in etcd and sent to routers as
`v1.TypeContract`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from seedbed.errors import ProtocolError
from seedbed.keys import KeyKind, KeyPath
from seedbed.v1 import store_pb2


@dataclass(frozen=True, slots=True)
class MethodContract:
    """One method of an entity service, as routers and hosts need it."""

    name: str
    path: str
    """`/package.Service/Method`"""
    key: KeyPath
    server_streaming: bool
    repeatable: bool
    """May run twice, so it is repeated when its outcome is unknown."""
    read_only: bool


@dataclass(frozen=True, slots=True)
class TypeContract:
    """An entity type: the service that it is, and its methods by name (`Report`)."""

    type: str
    service: str
    shard_count: int
    """0: the cluster's default."""
    methods: Mapping[str, MethodContract]
    idle_timeout_s: float | None = None
    """Only known where the service's own descriptor is."""
    snapshot_every: int = 0
    """Changes between two snapshots of an event-sourced entity; 0: the worker's default. Known
    where the idle timeout is."""

    @property
    def key_kind(self) -> KeyKind:
        """Of the first method's key; the others are of its family, or the type is refused."""
        return next(iter(self.methods.values())).key.kind


def to_proto(contract: TypeContract) -> store_pb2.TypeContract:
    """The contract as it is kept and sent (without what only its worker needs)."""
    return store_pb2.TypeContract(
        type=contract.type,
        shard_count=contract.shard_count,
        service=contract.service,
        methods=[
            store_pb2.MethodContract(
                name=method.name,
                key_path=method.key.fields,
                key_kind=store_pb2.KeyKind.Value(f"KEY_KIND_{method.key.kind.name}"),
                server_streaming=method.server_streaming,
                repeatable=method.repeatable,
                read_only=method.read_only,
                key_presence=method.key.presence,
                key_name=method.key.name,
            )
            for method in contract.methods.values()
        ],
    )


def from_proto(message: store_pb2.TypeContract) -> TypeContract:
    """The contract that a message describes; raises `ProtocolError` if it is not one."""
    methods: dict[str, MethodContract] = {}
    for method in message.methods:
        try:
            key = KeyPath(
                tuple(method.key_path),
                KeyKind(method.key_kind),
                method.key_presence,
                method.key_name,
            )
        except ValueError as error:
            raise ProtocolError(f"contract {message.type}, {method.name}: {error}") from None
        methods[method.name] = MethodContract(
            name=method.name,
            path=f"/{message.service}/{method.name}",
            key=key,
            server_streaming=method.server_streaming,
            repeatable=method.repeatable,
            read_only=method.read_only,
        )
    return TypeContract(message.type, message.service, message.shard_count, methods)


def incompatibility(old: TypeContract, new: TypeContract) -> str | None:
    """Why one cluster cannot serve both; None if it can. Missing and added methods are fine."""
    if old.type != new.type:
        return f"these are two types: {old.type} and {new.type}"
    where = f"type {new.type}"
    if old.service != new.service:
        return f"{where} is service {old.service}, not {new.service}: give the new one another type"
    if old.shard_count and new.shard_count and old.shard_count != new.shard_count:
        return f"{where} has {old.shard_count} shards for ever, not {new.shard_count}"
    for name in sorted(old.methods.keys() & new.methods.keys()):
        was, now = old.methods[name], new.methods[name]
        if was.key.fields != now.key.fields:
            return f"{where}, method {name}: the key was field {was.key}, now it is {now.key}"
        if _widest(was.key.kind) is not _widest(now.key.kind):
            return (
                f"{where}, method {name}: the key (field {now.key}) was"
                f" {_PROTO_NAMES[was.key.kind]}, now it is {_PROTO_NAMES[now.key.kind]}"
            )
        if was.server_streaming != now.server_streaming:
            return f"{where}, method {name}: it cannot change between unary and streaming"
    return mixed_kinds(merge(old, new))


def merge(old: TypeContract, new: TypeContract) -> TypeContract:
    """Contract with the methods of both; where both have one, the new one counts.

    Its key is read in the way that loses nothing of either build's keys.
    """
    methods = {**old.methods, **new.methods}
    for name in old.methods.keys() & new.methods.keys():
        was, now = old.methods[name].key, new.methods[name].key
        kind = now.kind if was.kind is now.kind else _widest(now.kind)
        key = replace(now, kind=kind, presence=was.presence or now.presence)
        methods[name] = replace(new.methods[name], key=key)
    return TypeContract(
        type=new.type,
        service=new.service,
        shard_count=new.shard_count or old.shard_count,
        methods=methods,
        idle_timeout_s=new.idle_timeout_s,
        snapshot_every=new.snapshot_every,
    )


def mixed_kinds(contract: TypeContract) -> str | None:
    """A type has keys of one kind, else two methods could not mean the same entity."""
    first: MethodContract | None = None
    for method in contract.methods.values():
        first = first or method
        one, other = _family(first.key.kind), _family(method.key.kind)
        if one != other:
            return (
                f"methods {first.name} and {method.name} of type {contract.type} have keys of two"
                f" kinds, {one} and {other}: use one"
            )
    return None


def _family(kind: KeyKind) -> str:
    name = _PROTO_NAMES[kind]
    return name if name in ("string", "bytes") else "integer"


def _widest(kind: KeyKind) -> KeyKind:
    """int32 may become int64 and back, and so on: both write the same bytes for the same number."""
    return _WIDER.get(kind, kind)


_WIDER: Final = {
    KeyKind.VARINT32: KeyKind.VARINT,
    KeyKind.SIGNED_VARINT32: KeyKind.SIGNED_VARINT,
    KeyKind.ZIGZAG32: KeyKind.ZIGZAG,
}

_PROTO_NAMES: Final = {
    KeyKind.STRING: "string",
    KeyKind.BYTES: "bytes",
    KeyKind.VARINT: "uint64",
    KeyKind.SIGNED_VARINT: "int64",
    KeyKind.ZIGZAG: "sint64",
    KeyKind.FIXED32: "fixed32",
    KeyKind.SIGNED_FIXED32: "sfixed32",
    KeyKind.FIXED64: "fixed64",
    KeyKind.SIGNED_FIXED64: "sfixed64",
    KeyKind.VARINT32: "uint32",
    KeyKind.SIGNED_VARINT32: "int32",
    KeyKind.ZIGZAG32: "sint32",
}
