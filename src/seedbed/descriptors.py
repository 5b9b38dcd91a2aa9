"""Reads contracts from descriptors: of a worker's own classes, or of the set that a peer sent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from google.protobuf.descriptor import (
    Descriptor,
    FieldDescriptor,
    FileDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)
from google.protobuf.descriptor_pb2 import (
    FieldOptions,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodOptions,
    ServiceOptions,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message

from seedbed.contract import MethodContract, TypeContract, mixed_kinds
from seedbed.errors import ContractError
from seedbed.keys import KeyKind, KeyPath
from seedbed.sharding import MAX_SHARDS
from seedbed.v1 import options_pb2

MAX_NESTING = 32
"""Deepest nesting of messages in which a key is looked for."""

_TYPE: Final = re.compile("[a-z0-9.-]{1,63}")

_KINDS: Final = {
    FieldDescriptor.TYPE_STRING: KeyKind.STRING,
    FieldDescriptor.TYPE_BYTES: KeyKind.BYTES,
    FieldDescriptor.TYPE_UINT64: KeyKind.VARINT,
    FieldDescriptor.TYPE_INT64: KeyKind.SIGNED_VARINT,
    FieldDescriptor.TYPE_SINT64: KeyKind.ZIGZAG,
    FieldDescriptor.TYPE_FIXED32: KeyKind.FIXED32,
    FieldDescriptor.TYPE_SFIXED32: KeyKind.SIGNED_FIXED32,
    FieldDescriptor.TYPE_FIXED64: KeyKind.FIXED64,
    FieldDescriptor.TYPE_SFIXED64: KeyKind.SIGNED_FIXED64,
    FieldDescriptor.TYPE_UINT32: KeyKind.VARINT32,
    FieldDescriptor.TYPE_INT32: KeyKind.SIGNED_VARINT32,
    FieldDescriptor.TYPE_SINT32: KeyKind.ZIGZAG32,
}


def contract_of(service: ServiceDescriptor) -> TypeContract:
    """Contract of an entity service; raises `ContractError` with the place and what to do."""
    where = f"{service.file.name}: service {service.full_name}"
    symbol = service.full_name
    entity = entity_options(service)
    if entity is None:
        raise ContractError(
            f"{where} is no entity: give it the option"
            ' `option (seedbed.v1.entity) = { type: "..." };`',
            symbol=symbol,
        )
    if not _TYPE.fullmatch(entity.type):
        raise ContractError(
            f"{where}: entity type {entity.type!r}: name it with 1 to 63 of a-z 0-9 . -",
            symbol=symbol,
        )
    if entity.shards > MAX_SHARDS:
        raise ContractError(
            f"{where}: {entity.shards} shards: use at most {MAX_SHARDS}", symbol=symbol
        )
    idle_timeout_s: float | None = None
    if entity.HasField("idle_timeout"):
        idle_timeout_s = entity.idle_timeout.seconds + entity.idle_timeout.nanos / 1e9
        if idle_timeout_s <= 0:
            raise ContractError(
                f"{where}: idle_timeout is not above 0: leave it out or raise it", symbol=symbol
            )
    methods = {method.name: _method(service, method) for method in service.methods}
    contract = TypeContract(
        entity.type,
        service.full_name,
        entity.shards,
        methods,
        idle_timeout_s,
        entity.snapshot_every,
    )
    if mixed := mixed_kinds(contract):
        raise ContractError(f"{where}: {mixed}", symbol=symbol)
    return contract


def entity_options(service: ServiceDescriptor) -> options_pb2.EntityOptions | None:
    """The option that makes a service an entity; None for a service that is none."""
    options = ServiceOptions.FromString(_serialised(service.GetOptions()))
    if not options.HasExtension(options_pb2.entity):
        return None
    return options.Extensions[options_pb2.entity]


def contract_from_descriptors(data: bytes, service: str) -> TypeContract:
    """Contract of a service in a serialised FileDescriptorSet; raises `ContractError`."""
    try:
        files = {file.name: file for file in FileDescriptorSet.FromString(data).file}
        pool = DescriptorPool()
        for file in _imports_first(files):
            pool.AddSerializedFile(file.SerializeToString())
        return contract_of(pool.FindServiceByName(service))
    except (DecodeError, TypeError, KeyError, ValueError) as error:
        raise ContractError(f"service {service}: bad descriptor set: {error}") from None


def descriptor_set(service: ServiceDescriptor) -> bytes:
    """Serialised FileDescriptorSet of the service's file and all that it imports."""
    files: dict[str, FileDescriptor] = {}
    waiting = [service.file]
    while waiting:
        file = waiting.pop()
        if file.name not in files:
            files[file.name] = file
            waiting.extend(file.dependencies)
    protos = {name: FileDescriptorProto.FromString(f.serialized_pb) for name, f in files.items()}
    return FileDescriptorSet(file=_imports_first(protos)).SerializeToString(deterministic=True)


def _method(service: ServiceDescriptor, method: MethodDescriptor) -> MethodContract:
    where = f"{service.file.name}: method {service.full_name}.{method.name}"
    if method.client_streaming:
        raise ContractError(
            f"{where} streams from the client, which an entity cannot: send single requests",
            symbol=method.full_name,
        )
    level = MethodOptions.FromString(_serialised(method.GetOptions())).idempotency_level
    read_only = method.server_streaming or level == MethodOptions.NO_SIDE_EFFECTS
    return MethodContract(
        name=method.name,
        path=f"/{service.full_name}/{method.name}",
        key=_key_path(where, method.input_type),
        server_streaming=method.server_streaming,
        repeatable=read_only or level == MethodOptions.IDEMPOTENT,
        read_only=read_only,
    )


def _key_path(where: str, request: Descriptor) -> KeyPath:
    found = _keys_in(request, {}, 0)
    if not found:
        raise ContractError(
            f"{where}: its request {request.full_name} ({request.file.name}) has no key:"
            " mark one string, bytes or integer field with [(seedbed.v1.key) = true]"
            " (not inside repeated fields or groups)",
            symbol=request.full_name,
        )
    if len(found) > 1:
        one, other = (".".join(field.name for field in path) for path in found[:2])
        raise ContractError(
            f"{where}: its request {request.full_name} ({request.file.name}) has more than one"
            f" key, {one} and {other}: leave one",
            symbol=found[1][-1].full_name,
        )
    path = found[0]
    key = path[-1]
    return KeyPath(
        fields=tuple(field.number for field in path),
        kind=_KINDS[key.type],
        presence=key.has_presence,
        name=".".join(field.name for field in path),
    )


_Path = tuple[FieldDescriptor, ...]


def _keys_in(message: Descriptor, known: dict[str, list[_Path]], depth: int) -> list[_Path]:
    """Paths to the keys in a message: two are enough to refuse it.

    `known` makes this linear in the number of messages, and ends recursion: a message inside
    itself holds no second key.
    """
    if message.full_name in known:
        return known[message.full_name]
    if depth > MAX_NESTING:
        raise ContractError(
            f"{message.file.name}: message {message.full_name} is nested deeper than"
            f" {MAX_NESTING} in a request: bring its key further up",
            symbol=message.full_name,
        )
    found = known[message.full_name] = []
    paths: list[_Path] = []
    for field in message.fields:
        inner = field.message_type if field.type == FieldDescriptor.TYPE_MESSAGE else None
        if _is_key(message, field):
            paths.append((field,))
        elif inner is not None and not field.is_repeated:
            paths += [(field, *path) for path in _keys_in(inner, known, depth + 1)]
    found += paths[:2]
    return found


def _is_key(message: Descriptor, field: FieldDescriptor) -> bool:
    serialised = _serialised(field.GetOptions())
    if not serialised or not FieldOptions.FromString(serialised).Extensions[options_pb2.key]:
        return False
    where = f"{message.file.name}: field {field.full_name}"
    if field.is_repeated:
        raise ContractError(
            f"{where} is repeated, so it cannot be a key: mark a single one",
            symbol=field.full_name,
        )
    if field.type not in _KINDS:
        raise ContractError(
            f"{where} cannot be a key: mark a string, bytes or integer field",
            symbol=field.full_name,
        )
    return True


def _serialised(options: Message) -> bytes:
    """Options may come from another pool, where ours are unknown fields: read them as bytes."""
    return options.SerializeToString()


def _imports_first(files: Mapping[str, FileDescriptorProto]) -> Iterator[FileDescriptorProto]:
    """The files, each after those that it imports; cycles are the pool's to refuse."""
    waiting = sorted(files, reverse=True)
    opened: set[str] = set()
    closed: set[str] = set()
    while waiting:
        name = waiting[-1]
        if name not in opened:
            opened.add(name)
            imports = sorted(files[name].dependency, reverse=True)
            waiting += [other for other in imports if other in files and other not in opened]
            continue
        waiting.pop()
        if name not in closed:
            closed.add(name)
            yield files[name]
