"""gRPC server reflection (v1 and v1alpha) for the users' entity services and for Seedbed's own.

Two builds may ship differing files of one name, so each type and build has a descriptor pool of
its own; the newest build that knows a name answers for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import DESCRIPTOR as ERROR_DETAILS
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from seedbed.errors import CallError, Reason
from seedbed.transport import BidiMethod, Method, ServerCall
from seedbed.v1 import admin_pb2, cluster_pb2
from seedbed_seed.cluster_view import ClusterView, ViewChange

PATHS = frozenset(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    for version in ("v1", "v1alpha")
)

OWN_SERVICES = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "seedbed.v1.Admin",
    "seedbed.v1.Cluster",
)

_NOT_FOUND = 5


class Files:
    """The files of one descriptor set, with what each name in them leads to."""

    def __init__(self, files: Mapping[str, descriptor_pb2.FileDescriptorProto]) -> None:
        self._files = files
        self._symbols: dict[str, str] = {}
        self._extensions: dict[tuple[str, int], str] = {}
        for file in files.values():
            for symbol in _symbols(file):
                self._symbols[symbol] = file.name
            for extension in _extensions(file):
                extended = extension.extendee.lstrip(".")
                self._extensions[extended, extension.number] = file.name

    def by_name(self, name: str) -> list[bytes] | None:
        """The file and all that it imports, serialised; None if it is not here."""
        if name not in self._files:
            return None
        wanted, waiting = {name: None}, [name]
        while waiting:
            for needed in self._files[waiting.pop()].dependency:
                if needed in self._files and needed not in wanted:
                    wanted[needed] = None
                    waiting.append(needed)
        return [self._files[file].SerializeToString() for file in wanted]

    def by_symbol(self, symbol: str) -> list[bytes] | None:
        return self.by_name(self._symbols.get(symbol, ""))

    def by_extension(self, message: str, number: int) -> list[bytes] | None:
        return self.by_name(self._extensions.get((message, number), ""))

    def extension_numbers(self, message: str) -> set[int]:
        return {number for extended, number in self._extensions if extended == message}

    def knows(self, symbol: str) -> bool:
        return symbol in self._symbols


class Reflection:
    """Answers reflection requests from the contracts in the view."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._own = _own_files()
        self._by_type: dict[str, tuple[int, list[Files]]] = {}
        view.listen(self._changed)

    def find(self, method: str) -> Method | None:
        """Reflection's method in both versions, for the server."""
        return BidiMethod(self._answer_all) if method in PATHS else None

    async def _answer_all(
        self, call: ServerCall, requests: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        async for data in requests:
            try:
                request = reflection_pb2.ServerReflectionRequest.FromString(data)
            except DecodeError as error:
                raise CallError(Reason.BAD_REQUEST, f"no reflection request: {error}") from error
            yield self.answer(request).SerializeToString()

    def answer(
        self, request: reflection_pb2.ServerReflectionRequest
    ) -> reflection_pb2.ServerReflectionResponse:
        """The answer to one request."""
        response = reflection_pb2.ServerReflectionResponse(original_request=request)
        found: list[bytes] | None = None
        match request.WhichOneof("message_request"):
            case "list_services":
                for name in self._services():
                    response.list_services_response.service.add(name=name)
                return response
            case "file_by_filename":
                found = self._first(lambda files: files.by_name(request.file_by_filename))
            case "file_containing_symbol":
                found = self._first(lambda files: files.by_symbol(request.file_containing_symbol))
            case "file_containing_extension":
                extension = request.file_containing_extension
                found = self._first(
                    lambda files: files.by_extension(
                        extension.containing_type, extension.extension_number
                    )
                )
            case "all_extension_numbers_of_type":
                message = request.all_extension_numbers_of_type
                if any(files.knows(message) for files in self._all()):
                    numbers = {n for files in self._all() for n in files.extension_numbers(message)}
                    response.all_extension_numbers_response.base_type_name = message
                    response.all_extension_numbers_response.extension_number.extend(sorted(numbers))
                    return response
            case _:
                pass
        if found is None:
            response.error_response.error_code = _NOT_FOUND
            response.error_response.error_message = "not known here; ask list_services for what is"
        else:
            response.file_descriptor_response.file_descriptor_proto.extend(found)
        return response

    def _services(self) -> list[str]:
        contracts = self._view.contracts.values()
        return sorted({*OWN_SERVICES, *(known.contract.service for known in contracts)})

    def _first(self, look: Callable[[Files], list[bytes] | None]) -> list[bytes] | None:
        return next((found for files in self._all() if (found := look(files)) is not None), None)

    def _all(self) -> Iterator[Files]:
        """Newest builds first, whatever their type; Seedbed's own files last."""
        newest = sorted(self._by_type.values(), key=lambda item: item[0], reverse=True)
        for _, builds in newest:
            yield from builds
        yield self._own

    def _changed(self, change: ViewChange) -> None:
        if change.snapshot:
            self._by_type.clear()
        for known in change.contracts:
            builds = [_files(data) for data in reversed(known.message.descriptor_sets)]
            self._by_type[known.contract.type] = (known.revision, builds)


def _files(data: bytes) -> Files:
    descriptors = descriptor_pb2.FileDescriptorSet.FromString(data)
    return Files({file.name: file for file in descriptors.file})


def _own_files() -> Files:
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    waiting = [admin_pb2.DESCRIPTOR, cluster_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR]
    waiting.append(reflection_pb2.DESCRIPTOR)
    waiting.append(ERROR_DETAILS)  # tools show by it why a call was refused
    while waiting:
        file = waiting.pop()
        if file.name not in files:
            proto = descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)
            files[file.name] = proto
            waiting.extend(file.dependencies)
    renamed = _as_v1(files[reflection_pb2.DESCRIPTOR.name])
    files[renamed.name] = renamed
    return Files(files)


def _as_v1(alpha: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    """Version 1 of reflection has the same messages under another package, but no Python module."""
    file = descriptor_pb2.FileDescriptorProto()
    file.CopyFrom(alpha)
    file.name, file.package = "grpc/reflection/v1/reflection.proto", "grpc.reflection.v1"
    for message in file.message_type:
        for field in message.field:
            if field.HasField("type_name"):
                field.type_name = _renamed(field.type_name)
    for service in file.service:
        for method in service.method:
            method.input_type = _renamed(method.input_type)
            method.output_type = _renamed(method.output_type)
    return file


def _renamed(name: str) -> str:
    return name.replace(".grpc.reflection.v1alpha.", ".grpc.reflection.v1.")


def _symbols(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    """Full names of all that the file declares."""
    scope = f"{file.package}." if file.package else ""
    for message in file.message_type:
        yield from _in_message(scope, message)
    for enum in file.enum_type:
        yield from _in_enum(scope, enum)
    for extension in file.extension:
        yield scope + extension.name
    for service in file.service:
        yield scope + service.name
        yield from (f"{scope}{service.name}.{method.name}" for method in service.method)


def _in_message(scope: str, message: descriptor_pb2.DescriptorProto) -> Iterator[str]:
    name = scope + message.name
    yield name
    for field in (*message.field, *message.extension):
        yield f"{name}.{field.name}"
    for nested in message.nested_type:
        yield from _in_message(f"{name}.", nested)
    for enum in message.enum_type:
        yield from _in_enum(f"{name}.", enum)


def _in_enum(scope: str, enum: descriptor_pb2.EnumDescriptorProto) -> Iterator[str]:
    yield scope + enum.name
    yield from (scope + value.name for value in enum.value)


def _extensions(
    file: descriptor_pb2.FileDescriptorProto,
) -> Iterator[descriptor_pb2.FieldDescriptorProto]:
    yield from file.extension
    waiting = list(file.message_type)
    while waiting:
        message = waiting.pop()
        yield from message.extension
        waiting.extend(message.nested_type)
