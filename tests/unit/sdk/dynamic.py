"""Builds .proto files at run time, so that a test shows the messages that it is about."""

from __future__ import annotations

from google.protobuf import descriptor_pb2, duration_pb2
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    MethodOptions,
    ServiceDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool

from seedbed.v1 import options_pb2

PACKAGE = "demo"


def field(
    name: str,
    number: int,
    kind: FieldDescriptorProto.Type.ValueType = FieldDescriptorProto.TYPE_STRING,
    *,
    of: str = "",
    key: bool = False,
    optional: bool = False,
    repeated: bool = False,
) -> FieldDescriptorProto:
    """A field; `of` names the message type of a message field."""
    made = FieldDescriptorProto(
        name=name,
        number=number,
        type=FieldDescriptorProto.TYPE_MESSAGE if of else kind,
        label=FieldDescriptorProto.LABEL_REPEATED
        if repeated
        else FieldDescriptorProto.LABEL_OPTIONAL,
    )
    if of:
        made.type_name = f".{PACKAGE}.{of}"
    if optional:
        made.proto3_optional = True
    if key:
        made.options.Extensions[options_pb2.key] = True
    return made


def message(name: str, *fields: FieldDescriptorProto, oneof: str = "") -> DescriptorProto:
    """A message; with `oneof`, its fields are members of a oneof of that name."""
    made = DescriptorProto(name=name, field=fields)
    if oneof:
        made.oneof_decl.add(name=oneof)
        for member in made.field:
            member.oneof_index = 0
    for member in made.field:
        if member.proto3_optional:
            member.oneof_index = len(made.oneof_decl)
            made.oneof_decl.add(name=f"_{member.name}")
    return made


def method(
    name: str,
    request: str,
    *,
    reply: str = "Reply",
    level: MethodOptions.IdempotencyLevel.ValueType | None = None,
    client_streaming: bool = False,
    server_streaming: bool = False,
) -> MethodDescriptorProto:
    made = MethodDescriptorProto(
        name=name,
        input_type=f".{PACKAGE}.{request}",
        output_type=f".{PACKAGE}.{reply}",
        client_streaming=client_streaming,
        server_streaming=server_streaming,
    )
    if level is not None:
        made.options.idempotency_level = level
    return made


def service(
    *methods: MethodDescriptorProto,
    name: str = "Thing",
    entity: options_pb2.EntityOptions | None = None,
) -> ServiceDescriptorProto:
    """An entity service of type `thing`, unless other options are given."""
    made = ServiceDescriptorProto(name=name, method=methods)
    made.options.Extensions[options_pb2.entity].CopyFrom(
        entity or options_pb2.EntityOptions(type="thing")
    )
    return made


def file(
    *parts: DescriptorProto | ServiceDescriptorProto,
    name: str = "demo.proto",
    syntax: str = "proto3",
) -> FileDescriptorProto:
    """A file with these messages and services, and an empty message `Reply`."""
    return FileDescriptorProto(
        name=name,
        package=PACKAGE,
        syntax=syntax,
        dependency=["seedbed/v1/options.proto"],
        message_type=[
            *(part for part in parts if isinstance(part, DescriptorProto)),
            DescriptorProto(name="Reply"),
        ],
        service=[part for part in parts if isinstance(part, ServiceDescriptorProto)],
    )


def pool_of(*files: FileDescriptorProto) -> DescriptorPool:
    """A pool of its own with these files and those that they import."""
    pool = DescriptorPool()
    for known in (descriptor_pb2.DESCRIPTOR, duration_pb2.DESCRIPTOR, options_pb2.DESCRIPTOR):
        pool.AddSerializedFile(known.serialized_pb)
    for one in files:
        pool.AddSerializedFile(one.SerializeToString())
    return pool


def service_of(
    *parts: DescriptorProto | ServiceDescriptorProto, name: str = "Thing"
) -> ServiceDescriptor:
    """Descriptor of the service of a file with these parts."""
    return pool_of(file(*parts)).FindServiceByName(f"{PACKAGE}.{name}")


def message_of(pool: DescriptorPool, name: str) -> Descriptor:
    return pool.FindMessageTypeByName(f"{PACKAGE}.{name}")
