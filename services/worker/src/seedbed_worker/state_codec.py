"""States as bytes: protobuf messages as such, dataclasses and msgspec Structs as MessagePack.

What is written can be read again: a state whose fields do not have their declared types is refused
when it is written, not when the entity is next needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Protocol, cast

import msgspec
from google.protobuf.message import DecodeError, EncodeError, Message

from seedbed.errors import StateError

_DEPTH = 20
"""So deep is the part looked for that cannot be written."""


class StateCodec(Protocol):
    """Writes and reads the states of one class. Both raise `StateError`."""

    def encode(self, state: object) -> bytes: ...

    def decode(self, data: bytes) -> object: ...


def codec_of(factory: Callable[[], object]) -> StateCodec:
    """Return the codec for what this type (or factory of None) makes; raises `StateError`."""
    type_: object = factory
    if isinstance(type_, type) and issubclass(type_, Message):
        return _Protobuf(type_)
    made = factory()
    return _Nothing() if made is None else _Packed(factory)


class _Protobuf:
    def __init__(self, message: type[Message]) -> None:
        self._message = message

    def encode(self, state: object) -> bytes:
        if not isinstance(state, self._message):
            raise _other(state, self._message.DESCRIPTOR.full_name)
        try:
            return state.SerializeToString(deterministic=True)
        except EncodeError as error:
            raise StateError(f"self.state: {error}") from error

    def decode(self, data: bytes) -> object:
        try:
            return self._message.FromString(data)
        except DecodeError as error:
            raise StateError(f"these bytes are no {self._message.__name__}: {error}") from error


class _Nothing:
    def encode(self, state: object) -> bytes:
        if state is not None:
            raise _other(state, "None, since the class declares no state")
        return b""

    def decode(self, data: bytes) -> object:
        return None


class _Packed:
    def __init__(self, type_: object) -> None:
        self._name = getattr(type_, "__qualname__", str(type_))
        try:
            self._decoder = msgspec.msgpack.Decoder[object](type_)
        except (TypeError, NameError) as error:
            raise StateError(f"{self._name} cannot be serialised: {error}") from error

    def encode(self, state: object) -> bytes:
        try:
            data = _encode(state)
        except Exception as error:
            place, part = _fault(state)
            raise StateError(
                f"{place} is of type {type(part).__qualname__}, which cannot be serialised"
                f" ({error}): keep it in an attribute of the entity instead"
            ) from error
        try:
            self._decoder.decode(data)
        except msgspec.DecodeError as error:
            text = str(error).replace("`$", "`self.state")
            raise StateError(
                f"the state could not be read again as {self._name}: {text}"
            ) from error
        return data

    def decode(self, data: bytes) -> object:
        try:
            return self._decoder.decode(data)
        except msgspec.DecodeError as error:
            raise StateError(f"these bytes are no {self._name}: {error}") from error


_encode = msgspec.msgpack.Encoder().encode


def _other(state: object, expected: str) -> StateError:
    return StateError(f"self.state is a {type(state).__qualname__}, expected {expected}")


def _fault(state: object) -> tuple[str, object]:
    """The smallest part that cannot be written, and where it is."""
    place, part = "self.state", state
    for _ in range(_DEPTH):
        for step, inner in _parts(part):
            try:
                _encode(inner)
            except Exception:  # whatever an encoder raises for what it cannot write
                place, part = place + step, inner
                break
        else:
            break
    return place, part


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield f".{name}", getattr(value, name)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield f".{field.name}", getattr(value, field.name)
    elif isinstance(value, Mapping):
        # A check by isinstance leaves the types of its parts unknown.
        for key, inner in cast("Mapping[object, object]", value).items():
            yield f"[{key!r}]", inner
    elif isinstance(value, list | tuple | set | frozenset):
        for number, inner in enumerate(cast("Collection[object]", value)):
            yield f"[{number}]", inner
