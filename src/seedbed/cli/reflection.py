"""Asks a server which services it has, by gRPC server reflection, and calls them by JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection_pb2 as pb

from seedbed.calls import Metadata
from seedbed.cli.connection import CALL_LIMIT_S
from seedbed.cli.failure import Failure, refused, wrong_usage

_PATHS = (
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
"""The two versions differ in nothing but their name."""

_NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]


class Reflection:
    """Services of one server, with the descriptors that it sends."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._pool = descriptor_pool.DescriptorPool()
        self._known: set[str] = set()
        self._path = _PATHS[0]

    def services(self) -> list[str]:
        """Full names of all services."""
        response = self._ask(pb.ServerReflectionRequest(list_services="*"))
        return sorted(service.name for service in response.list_services_response.service)

    def service(self, name: str) -> ServiceDescriptor:
        """Descriptor of a service; raises `Failure` if the server has none of this name."""
        response = self._ask(pb.ServerReflectionRequest(file_containing_symbol=name))
        if response.HasField("error_response"):
            raise _not_there(name, response.error_response)
        self._add(response.file_descriptor_response.file_descriptor_proto)
        try:
            return self._pool.FindServiceByName(name)
        except KeyError:
            raise refused("UNIMPLEMENTED", f"the cluster has no service {name!r}") from None

    def method(self, path: str) -> MethodDescriptor:
        """Descriptor of `package.Service/Method`."""
        service_name, slash, method_name = path.lstrip("/").rpartition("/")
        if not slash or not service_name or not method_name:
            raise wrong_usage(f"found {path!r}, expected package.Service/Method")
        service = self.service(service_name)
        method = service.methods_by_name.get(method_name)
        if method is None:
            names = ", ".join(method.name for method in service.methods)
            raise refused("UNIMPLEMENTED", f"{service_name} has no method {method_name!r}: {names}")
        return method

    def _add(self, files: Sequence[bytes]) -> None:
        """Take over files and, first, all that they import."""
        protos = [FileDescriptorProto.FromString(data) for data in files]
        given = {proto.name: proto for proto in protos}
        for proto in protos:
            self._add_one(proto, given)

    def _add_one(self, proto: FileDescriptorProto, given: dict[str, FileDescriptorProto]) -> None:
        if proto.name in self._known:
            return
        self._known.add(proto.name)
        for name in proto.dependency:
            if name not in self._known:
                self._add_one(given.get(name) or self._fetch(name), given)
        self._pool.AddSerializedFile(proto.SerializeToString())

    def _fetch(self, name: str) -> FileDescriptorProto:
        response = self._ask(pb.ServerReflectionRequest(file_by_filename=name))
        for data in response.file_descriptor_response.file_descriptor_proto:
            proto = FileDescriptorProto.FromString(data)
            if proto.name == name:
                return proto
        # Servers need not send the files that every protobuf runtime has.
        proto = FileDescriptorProto()
        try:
            descriptor_pool.Default().FindFileByName(name).CopyToProto(proto)
        except KeyError:
            raise refused("NOT_FOUND", f"the cluster does not send {name!r}") from None
        return proto

    def _ask(self, request: pb.ServerReflectionRequest) -> pb.ServerReflectionResponse:
        try:
            return self._ask_at(self._path, request)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED or self._path == _PATHS[1]:
                raise
        self._path = _PATHS[1]
        return self._ask_at(self._path, request)

    def _ask_at(
        self, path: str, request: pb.ServerReflectionRequest
    ) -> pb.ServerReflectionResponse:
        call: _Duplex = self._channel.stream_stream(
            path,
            request_serializer=pb.ServerReflectionRequest.SerializeToString,
            response_deserializer=pb.ServerReflectionResponse.FromString,
        )
        for response in call(iter([request]), timeout=CALL_LIMIT_S):
            return response
        raise refused("INTERNAL", "the server's reflection answers nothing")


class _Duplex(Protocol):
    def __call__(
        self, request_iterator: Iterator[pb.ServerReflectionRequest], *, timeout: float
    ) -> Iterator[pb.ServerReflectionResponse]: ...


def parse(method: MethodDescriptor, text: str) -> Message:
    """The request of a method from JSON; names as in the .proto or in lowerCamelCase."""
    request = message_factory.GetMessageClass(method.input_type)()
    try:
        if not text.lstrip().startswith("{"):
            raise json_format.ParseError("expected a JSON object")
        json_format.Parse(text, request)
    except json_format.ParseError as error:
        raise wrong_usage(f"{method.input_type.full_name}: {error}") from None
    return request


def invoke(
    channel: grpc.Channel,
    method: MethodDescriptor,
    request: Message,
    *,
    timeout: float | None,
    metadata: Metadata,
) -> Iterator[Message]:
    """Call the method; one message, or those of its stream."""
    if method.client_streaming:
        raise wrong_usage(f"{method.full_name} streams from the client, which no entity does")
    path = f"/{method.containing_service.full_name}/{method.name}"
    reply = message_factory.GetMessageClass(method.output_type)
    if method.server_streaming:
        yield from channel.unary_stream(
            path,
            request_serializer=_serialized,
            response_deserializer=reply.FromString,
        )(request, timeout=timeout, metadata=metadata)
    else:
        yield channel.unary_unary(
            path,
            request_serializer=_serialized,
            response_deserializer=reply.FromString,
        )(request, timeout=timeout, metadata=metadata)


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


def _not_there(name: str, error: pb.ErrorResponse) -> Failure:
    if error.error_code == _NOT_FOUND:
        return refused("UNIMPLEMENTED", f"the cluster has no service {name!r}")
    return refused("INTERNAL", f"reflection of {name!r}: {error.error_message}")
