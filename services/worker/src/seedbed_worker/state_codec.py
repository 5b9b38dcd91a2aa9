"""States and events as bytes: protobuf messages as such, dataclasses and msgspec Structs as
MessagePack.

What is written can be read again: a value whose fields do not have their declared types is refused
when it is written, not when the entity is next needed. And what is read is not lost: fields that
the class does not know, since a newer build wrote them, stay in a protobuf message, and are refused
in all else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Protocol, TypeGuard, cast

import msgspec
from google.protobuf.message import DecodeError, EncodeError, Message

from seedbed.errors import StateError
from seedbed_worker.unknown_fields import unknown_field

_DEPTH = 20
"""So deep is the part looked for that cannot be written."""


class StateCodec(Protocol):
    """Writes and reads the values of one class. Both raise `StateError`."""

    def encode(self, value: object) -> bytes: ...

    def decode(self, data: bytes) -> object: ...


def codec_of(factory: Callable[[], object]) -> StateCodec:
    """Return the codec for the states that this type (or factory of None) makes.

    Raises `StateError`.
    """
    if not isinstance(factory, type) and factory() is None:
        return _Nothing()
    return codec_of_class(factory, "self.state")


def codec_of_class(type_: object, what: str) -> StateCodec:
    """Return the codec for values of this class; `what` names such a value in errors.

    Raises `StateError`.
    """
    if is_message_class(type_):
        return _Protobuf(type_, what)
    return _Packed(type_, what)


def is_message_class(type_: object) -> TypeGuard[type[Message]]:
    """Whether it is a protobuf message's class."""
    # A check by isinstance leaves unknown of what the type is.
    return isinstance(type_, type) and issubclass(cast("type[object]", type_), Message)


class _Protobuf:
    def __init__(self, message: type[Message], what: str) -> None:
        self._message = message
        self._what = what

    def encode(self, value: object) -> bytes:
        if not isinstance(value, self._message):
            raise _other(self._what, value, self._message.DESCRIPTOR.full_name)
        try:
            return value.SerializeToString(deterministic=True)
        except EncodeError as error:
            raise StateError(f"{self._what}: {error}") from error

    def decode(self, data: bytes) -> object:
        try:
            return self._message.FromString(data)
        except DecodeError as error:
            raise StateError(f"these bytes are no {self._message.__name__}: {error}") from error


class _Nothing:
    def encode(self, value: object) -> bytes:
        if value is not None:
            raise _other("self.state", value, "None, since the class declares no state")
        return b""

    def decode(self, data: bytes) -> object:
        return None


class _Packed:
    def __init__(self, type_: object, what: str) -> None:
        self._type = type_
        self._what = what
        self._name = getattr(type_, "__qualname__", str(type_))
        try:
            self._decoder = msgspec.msgpack.Decoder[object](type_)
        except (TypeError, NameError) as error:
            raise StateError(f"{self._name} cannot be serialised: {error}") from error

    def encode(self, value: object) -> bytes:
        try:
            data = _encode(value)
        except Exception as error:
            place, part = _fault(self._what, value)
            raise StateError(
                f"{place} is of type {type(part).__qualname__}, which cannot be serialised"
                f" ({error}): keep it in an attribute of the entity instead"
            ) from error
        try:
            self._decoder.decode(data)
        except msgspec.DecodeError as error:
            text = str(error).replace("`$", f"`{self._what}")
            raise StateError(
                f"{self._what} could not be read again as {self._name}: {text}"
            ) from error
        return data

    def decode(self, data: bytes) -> object:
        try:
            value = self._decoder.decode(data)
        except msgspec.DecodeError as error:
            raise StateError(f"these bytes are no {self._name}: {error}") from error
        # What is written as it was read has lost nothing; to look costs a hundred times as much.
        if _encode(value) != data and (place := unknown_field(self._type, data)):
            raise StateError(
                f"these bytes have a field that {self._name} has not: {place} (a newer build wrote"
                " it): add it to the class, or override decode()"
            )
        return value


_encode = msgspec.msgpack.Encoder().encode


def _other(what: str, value: object, expected: str) -> StateError:
    return StateError(f"{what} is a {type(value).__qualname__}, expected {expected}")


def _fault(what: str, value: object) -> tuple[str, object]:
    """The smallest part that cannot be written, and where it is."""
    place, part = what, value
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
