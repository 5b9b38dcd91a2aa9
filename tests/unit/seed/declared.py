"""Entity services made up for tests, as workers declare them, and the Hellos that do so."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from google.protobuf import descriptor_pb2, duration_pb2

from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import options_pb2

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
) -> pb.TypeDeclaration:
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
    return pb.TypeDeclaration(
        type=type_,
        shard_count=shards,
        service="cups.Cups",
        descriptors=descriptors.SerializeToString(deterministic=True),
    )


_ids = count(1)


def hello(
    node: str = "w1",
    incarnation: str = "",
    *,
    port: int = 4000,
    host: str = "127.0.0.1",
    types: Sequence[pb.TypeDeclaration] | None = None,
) -> pb.Hello:
    """A Hello of a new incarnation, with a stream id of its own."""
    number = next(_ids)
    return pb.Hello(
        protocol_min=1,
        protocol_max=1,
        cluster="test",
        node_id=node,
        incarnation=incarnation or f"{node}-{number}",
        stream_id=f"stream-{number}",
        host=host,
        port=port,
        roles=["sharding"],
        app_version="1.0.0",
        types=[declaration()] if types is None else types,
    )


def resuming(first: pb.Hello, welcome: pb.Welcome, secret: bytes | None = None) -> pb.Hello:
    """The same incarnation's Hello on another stream."""
    again = pb.Hello()
    again.CopyFrom(first)
    again.stream_id = f"stream-{next(_ids)}"
    again.resume.lease_id = welcome.lease_id
    again.resume.secret = welcome.secret if secret is None else secret
    return again
