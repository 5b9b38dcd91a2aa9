"""Makes up a call to try, from what the cluster's reflection says about its entities."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FieldOptions, ServiceOptions
from google.protobuf.message import Message

from seedbed.cli.reflection import Reflection
from seedbed.v1 import options_pb2

DEFAULT_SEED = "127.0.0.1:4684"

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}
_FLOATS = {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}


@dataclass(frozen=True, slots=True)
class Sample:
    """A call in the syntax of `seedbed call` and of grpcurl."""

    method: str
    request: str
    seed: str

    def seedbed(self) -> str:
        where = "" if self.seed == DEFAULT_SEED else f" --seed {self.seed}"
        return f"seedbed call {self.method} {shlex.quote(self.request)}{where}"

    def grpcurl(self) -> str:
        return f"grpcurl -plaintext -d {shlex.quote(self.request)} {self.seed} {self.method}"


def sample(reflection: Reflection, seed: str) -> Sample | None:
    """A call of the first entity service's first unary method; None if there is no entity yet."""
    for name in reflection.services():
        if name.startswith(("grpc.", "seedbed.")):
            continue
        service = reflection.service(name)
        if _is_entity(service):
            method = next((m for m in service.methods if not m.server_streaming), None)
            if method is not None:
                request = json.dumps(_request(method))
                return Sample(f"{service.full_name}/{method.name}", request, seed)
    return None


def _request(method: MethodDescriptor) -> dict[str, object]:
    return {
        field.name: value
        for field in method.input_type.fields
        if (value := _value(field)) is not None
    }


def _value(field: FieldDescriptor) -> object:
    if field.is_repeated:
        return None
    options = FieldOptions.FromString(_serialized(field.GetOptions()))
    if field.message_type is not None:
        inner = {f.name: v for f in field.message_type.fields if (v := _key(f)) is not None}
        return inner or None
    return _key(field) or (None if options.debug_redact else _number(field))


def _key(field: FieldDescriptor) -> object:
    """A value for the field that carries the key."""
    options = FieldOptions.FromString(_serialized(field.GetOptions()))
    if not options.HasExtension(options_pb2.key):
        return None
    if field.cpp_type in _INTEGERS:
        return 1
    return "ZGVtbw==" if field.type == FieldDescriptor.TYPE_BYTES else "demo"


def _number(field: FieldDescriptor) -> object:
    if field.cpp_type in _FLOATS:
        return 20.5
    return 1 if field.cpp_type in _INTEGERS else None


def _is_entity(service: ServiceDescriptor) -> bool:
    options = ServiceOptions.FromString(_serialized(service.GetOptions()))
    return options.HasExtension(options_pb2.entity)


def _serialized(options: Message) -> bytes:
    # The server's descriptors live in a pool of their own, which does not know our options.
    return options.SerializeToString()
