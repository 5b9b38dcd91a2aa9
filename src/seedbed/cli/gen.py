"""What `seedbed gen` does: .proto files to modules and typed stubs, if all of them are right."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.descriptor_pool import DescriptorPool

from seedbed.cli import protoc
from seedbed.descriptors import entity_options
from seedbed.entity_contract import entity_contract
from seedbed.errors import ContractError

_OURS = "seedbed/v1"
"""Copies of our own .proto files: their modules come with the package."""


class Mistakes(Exception):
    """The .proto files cannot be used; `lines` says each with file and line."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Generated:
    """What was written."""

    files: list[Path]
    types: dict[str, str]
    """Entity types, and the service of each."""
    warnings: str


def generate(protos: Path, out: Path) -> Generated:
    """Generate code for all .proto files under `protos` into `out`.

    Nothing is written if anything is wrong: then it raises `Mistakes`. Raises `FileNotFoundError`
    if there is no .proto file.
    """
    sources = [
        path
        for path in sorted(protos.rglob("*.proto"))
        if not path.relative_to(protos).as_posix().startswith(_OURS + "/")
    ]
    if not sources:
        raise FileNotFoundError(f"no .proto file in {protos}")
    with tempfile.TemporaryDirectory() as folder:
        fresh, descriptors = Path(folder, "fresh"), Path(folder, "descriptors")
        fresh.mkdir()
        try:
            warnings = protoc.run(sources, protos, fresh, descriptors)
        except protoc.ProtocError as error:
            raise Mistakes(str(error).splitlines()) from None
        found = FileDescriptorSet.FromString(descriptors.read_bytes())
        names = {path.relative_to(protos).as_posix() for path in sources}
        types = _check(found, names, protos)
        return Generated(_move(fresh, out), types, warnings)


def _check(found: FileDescriptorSet, names: set[str], protos: Path) -> dict[str, str]:
    """Entity types of these files; raises `Mistakes`."""
    places = dict(_places(found))
    types: dict[str, str] = {}
    mistakes: list[str] = []
    for service in _services(found, names):
        if entity_options(service) is None:
            continue
        try:
            contract = entity_contract(service)
            other = types.setdefault(contract.type, contract.service)
            if other != contract.service:
                raise ContractError(
                    f"{service.file.name}: service {service.full_name}: entity type"
                    f" {contract.type} is also service {other}: give one another type",
                    symbol=service.full_name,
                )
        except ContractError as error:
            mistakes.append(_line(error, service, places, protos))
    if mistakes:
        raise Mistakes(mistakes)
    return types


def _services(found: FileDescriptorSet, names: set[str]) -> Iterator[ServiceDescriptor]:
    pool = DescriptorPool()  # of its own: the same files may be loaded here already
    for file in found.file:  # protoc writes them with imports first
        pool.AddSerializedFile(file.SerializeToString())
        if file.name in names:
            yield from pool.FindFileByName(file.name).services_by_name.values()


def _line(
    error: ContractError,
    service: ServiceDescriptor,
    places: Mapping[str, tuple[str, int]],
    protos: Path,
) -> str:
    """`file:line: what is wrong`."""
    file, line = places.get(error.symbol, (service.file.name, 1))
    text = str(error)
    for prefix in (file, service.file.name):
        text = text.removeprefix(f"{prefix}: ")
    return f"{protos / file}:{line}: {text}"


_MESSAGE, _SERVICE, _NESTED, _FIELD, _METHOD = 4, 6, 3, 2, 2
"""Field numbers of descriptor.proto, of which paths in source info are made."""


def _places(found: FileDescriptorSet) -> Iterator[tuple[str, tuple[str, int]]]:
    """File and line of each message, field, service and method, by full name."""
    for file in found.file:
        lines = {tuple(at.path): at.span[0] + 1 for at in file.source_code_info.location}
        for symbol, path in _symbols(file):
            yield symbol, (file.name, lines.get(path, 1))


def _symbols(file: FileDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    package = f"{file.package}." if file.package else ""
    for number, message in enumerate(file.message_type):
        yield from _message_symbols(message, package, (_MESSAGE, number))
    for number, service in enumerate(file.service):
        name = package + service.name
        yield name, (_SERVICE, number)
        for index, method in enumerate(service.method):
            yield f"{name}.{method.name}", (_SERVICE, number, _METHOD, index)


def _message_symbols(
    message: DescriptorProto, prefix: str, path: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    name = prefix + message.name
    yield name, path
    for index, field in enumerate(message.field):
        yield f"{name}.{field.name}", (*path, _FIELD, index)
    for index, inner in enumerate(message.nested_type):
        yield from _message_symbols(inner, f"{name}.", (*path, _NESTED, index))


def _move(fresh: Path, out: Path) -> list[Path]:
    """Each file takes the place of the old one at once, so that nobody reads half of it."""
    written: list[Path] = []
    for source in sorted(path for path in fresh.rglob("*") if path.is_file()):
        target = out / source.relative_to(fresh)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.new")
        shutil.copyfile(source, beside)
        os.replace(beside, target)
        written.append(target)
    return written
