"""Entity services made up for tests, as workers declare them."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf import descriptor_pb2, duration_pb2

from seedbed.v1 import cluster_pb2, options_pb2

Field = descriptor_pb2.FieldDescriptorProto


def declaration(
    type_: str = "cup",
    *,
    methods: Sequence[str] = ("Fill",),
    streams: Sequence[str] = (),
    key_number: int = 1,
    key_type: Field.Type.ValueType = Field.TYPE_STRING,
    shards: int = 0,
    file: str = "cups.proto",
    keyed: bool = True,
) -> cluster_pb2.TypeDeclaration:
    """Service `cups.Cups` with these methods, all of one request type."""
    proto = descriptor_pb2.FileDescriptorProto(
        name=file,
        package="cups",
        syntax="proto3",
        dependency=[options_pb2.DESCRIPTOR.name],
    )
    key = Field(name="id", number=key_number, label=Field.LABEL_OPTIONAL, type=key_type)
    if keyed:
        key.options.Extensions[options_pb2.key] = True
    proto.message_type.add(name="Request", field=[key])
    proto.message_type.add(name="Reply")
    service = proto.service.add(name="Cups")
    service.options.Extensions[options_pb2.entity].type = type_
    for name in (*methods, *streams):
        service.method.add(
            name=name,
            input_type=".cups.Request",
            output_type=".cups.Reply",
            server_streaming=name in streams,
        )
    files = [descriptor_pb2.DESCRIPTOR, duration_pb2.DESCRIPTOR, options_pb2.DESCRIPTOR]
    descriptors = descriptor_pb2.FileDescriptorSet(
        file=[
            *(descriptor_pb2.FileDescriptorProto.FromString(f.serialized_pb) for f in files),
            proto,
        ]
    )
    return cluster_pb2.TypeDeclaration(
        type=type_,
        shard_count=shards,
        service="cups.Cups",
        descriptors=descriptors.SerializeToString(deterministic=True),
    )
