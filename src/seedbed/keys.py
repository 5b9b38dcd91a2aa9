"""Reads an entity's key out of a request's bytes without parsing the request.

Theory. A router has to know the key of every call but nothing else of it, so this walks over the
wire format by hand: at each level it looks at the tags, skips what it does not want by its length,
and goes into the one field that the path names. It gives what protobuf's own parser would give:

- the last occurrence of a field counts, so the whole level is always walked over;
- a message field that occurs twice is merged: the key is the last one in any of the occurrences;
- a field whose wire type is not the declared one is an unknown field;
- integers are cut to the declared width.

What lies in skipped fields is not looked at; the worker parses it and answers BAD_REQUEST itself.
One thing is not followed: a member of a `oneof` that a later member overwrites (no encoder writes
both) still counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from seedbed.errors import CallError, Reason

MAX_KEY_BYTES = 1024
"""Longest key; longer ones are BAD_KEY."""

MAX_GROUPS = 100
"""Deepest nesting of (unknown) groups, as in protobuf's own parsers."""

_VARINT, _FIXED64, _LENGTH, _GROUP, _END_GROUP, _FIXED32 = range(6)


class KeyKind(Enum):
    """How a key field is encoded; values are those of `v1.KeyKind`."""

    STRING = 1
    BYTES = 2
    VARINT = 3
    SIGNED_VARINT = 4
    ZIGZAG = 5
    FIXED32 = 6
    SIGNED_FIXED32 = 7
    FIXED64 = 8
    SIGNED_FIXED64 = 9
    VARINT32 = 10
    SIGNED_VARINT32 = 11
    ZIGZAG32 = 12


@dataclass(frozen=True, slots=True)
class KeyPath:
    """Where the key sits in a request message.

    `fields` are field numbers from the request down to the key; `presence` says that the key field
    has explicit presence, so that an integer 0 that is there is a key. `name` is for people.
    """

    fields: tuple[int, ...]
    kind: KeyKind
    presence: bool
    name: str = field(default="", compare=False)
    tags: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """The tag (number and wire type) to look for at each level."""
    bits: int = field(init=False, repr=False, compare=False)
    """Width of an integer; 0 for a string or bytes."""
    signed: bool = field(init=False, repr=False, compare=False)
    """An integer in two's complement."""
    text: bool = field(init=False, repr=False, compare=False)
    """A string."""

    def __post_init__(self) -> None:
        if not self.fields or not all(0 < number < 1 << 29 for number in self.fields):
            raise ValueError(f"no path to a key: {self.fields}")
        wire, bits, signed = _ENCODING[self.kind]
        above = tuple(number << 3 | _LENGTH for number in self.fields[:-1])
        object.__setattr__(self, "tags", (*above, self.fields[-1] << 3 | wire))
        object.__setattr__(self, "bits", bits)
        object.__setattr__(self, "signed", signed)
        object.__setattr__(self, "text", self.kind is KeyKind.STRING)

    def __str__(self) -> str:
        return self.name or ".".join(map(str, self.fields))


@dataclass(slots=True)
class Key:
    """A key: its text for `self.key` and listings, and the bytes whose hash gives the shard.

    Nobody changes it; not frozen, since one is made for each call (0.2 µs less).
    """

    text: str
    canonical: bytes


def read_key(request: bytes | memoryview, path: KeyPath) -> Key:
    """Key of a serialised request.

    Raises `CallError`: BAD_KEY for a key that is missing, empty, too long, no UTF-8 or has a NUL,
    BAD_REQUEST
    for bytes that are no protobuf message.
    """
    try:
        found = _find(request, 0, len(request), path.tags, 0)
    except IndexError:
        raise _bad_request("it is cut off") from None
    if path.bits:
        number = 0 if found is None else _integer(request, *found, path)
        if number == 0 and (found is None or not path.presence):
            raise _empty(path)
        text = str(number)
        return Key(text, text.encode())
    if found is None or found[0] == found[1]:
        raise _empty(path)
    at, end = found
    if end - at > MAX_KEY_BYTES:
        size = f"{end - at} bytes, more than {MAX_KEY_BYTES}"
        raise CallError(Reason.BAD_KEY, f"the key (field {path}) has {size}")
    raw = bytes(request[at:end])
    if not path.text:
        return Key("0x" + raw.hex(), raw)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise CallError(Reason.BAD_KEY, f"the key (field {path}) is not UTF-8") from None
    if "\0" in text:  # no text in PostgreSQL has one
        raise CallError(Reason.BAD_KEY, f"the key (field {path}) has a NUL character")
    return Key(text, raw)


def canonical(text: str, kind: KeyKind) -> bytes:
    """The bytes whose hash gives the shard, from a key's text; empty for a text that is no key."""
    if kind is not KeyKind.BYTES:
        return text.encode()
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        return b""


def _find(
    data: bytes | memoryview, at: int, end: int, tags: tuple[int, ...], level: int
) -> tuple[int, int] | None:
    """Bounds of the value at the end of the path; raises IndexError past the data's end."""
    wanted = tags[level]
    leaf = level + 1 == len(tags)
    found: tuple[int, int] | None = None
    while at < end:
        tag = data[at]
        at += 1
        if tag > 0x7F:
            tag, at = _small_varint(data, at - 1, 0xFFFF_FFFF)
        if tag < 8:
            raise _bad_request("it has a field number 0")
        start = at
        wire = tag & 7
        if wire == _LENGTH:
            size = data[at]
            start = at = at + 1
            if size > 0x7F:
                size, start = _small_varint(data, at - 1, 0x7FFF_FFFF)
            at = start + size
        elif wire == _VARINT:
            at = _past_varint(data, at)
        else:
            at = _skip(data, at, end, tag)
        if at > end:
            raise IndexError
        if tag == wanted:
            found = (start, at) if leaf else (_find(data, start, at, tags, level + 1) or found)
    return found


def _small_varint(data: bytes | memoryview, at: int, limit: int) -> tuple[int, int]:
    """A tag or a length, and the place after it. Parsers differ in how long they may be (five
    or ten bytes), so this takes the longer."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > limit:
                break
            return value, at
    raise _bad_request("a tag or a length in it is too large")


def _past_varint(data: bytes | memoryview, at: int) -> int:
    limit = at + 10
    while data[at] > 0x7F:
        at += 1
        if at == limit:
            raise _bad_request("a varint in it has more than ten bytes")
    return at + 1


def _skip(data: bytes | memoryview, at: int, end: int, tag: int) -> int:
    """Place after a fixed-width value or a whole group."""
    groups: list[int] = []
    while True:
        match tag & 7:
            case 0:
                at = _past_varint(data, at)
            case 1:
                at += 8
            case 2:
                size, at = _small_varint(data, at, 0x7FFF_FFFF)
                at += size
            case 3:
                groups.append(tag >> 3)
                if len(groups) > MAX_GROUPS:
                    raise _bad_request("groups in it are nested too deeply")
            case 4:
                if not groups or groups.pop() != tag >> 3:
                    raise _bad_request("a group in it ends that did not begin")
            case 5:
                at += 4
            case _:
                raise _bad_request("it has an unknown wire type")
        if at > end:
            raise IndexError
        if not groups:
            return at
        tag, at = _small_varint(data, at, 0xFFFF_FFFF)
        if tag < 8:
            raise _bad_request("it has a field number 0")


def _integer(data: bytes | memoryview, at: int, end: int, path: KeyPath) -> int:
    bits = path.bits
    if path.tags[-1] & 7 != _VARINT:
        return int.from_bytes(data[at:end], "little", signed=path.signed)
    value = shift = 0
    for byte in data[at:end]:
        value |= (byte & 0x7F) << shift
        shift += 7
    value &= (1 << bits) - 1
    if path.signed:
        return value - (1 << bits) if value >> (bits - 1) else value
    if path.kind is KeyKind.ZIGZAG or path.kind is KeyKind.ZIGZAG32:
        return (value >> 1) ^ -(value & 1)
    return value


def _empty(path: KeyPath) -> CallError:
    return CallError(Reason.BAD_KEY, f"the key (field {path}) is empty: set it")


def _bad_request(why: str) -> CallError:
    return CallError(Reason.BAD_REQUEST, f"the request is no protobuf message: {why}")


_ENCODING: Final = {
    KeyKind.STRING: (_LENGTH, 0, False),
    KeyKind.BYTES: (_LENGTH, 0, False),
    KeyKind.VARINT: (_VARINT, 64, False),
    KeyKind.SIGNED_VARINT: (_VARINT, 64, True),
    KeyKind.ZIGZAG: (_VARINT, 64, False),
    KeyKind.FIXED32: (_FIXED32, 32, False),
    KeyKind.SIGNED_FIXED32: (_FIXED32, 32, True),
    KeyKind.FIXED64: (_FIXED64, 64, False),
    KeyKind.SIGNED_FIXED64: (_FIXED64, 64, True),
    KeyKind.VARINT32: (_VARINT, 32, False),
    KeyKind.SIGNED_VARINT32: (_VARINT, 32, True),
    KeyKind.ZIGZAG32: (_VARINT, 32, False),
}
