"""What stands in a record of the journal, or in a snapshot: parts, each with the name of its class.

    version (1 byte: 1) | MessagePack: [[name, data], …]

A state (or a snapshot) is one part, the events of a turn are one part each, in order. The name is
what `Entity.decode` gets: a protobuf message's full name, else the class's qualified name without
its module; empty for a class without a state. The version is there so that this may change: a
release reads all versions before it, and writes the newest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from seedbed.errors import StateError

VERSION: Final = b"\x01"


class Part(NamedTuple):
    """A state or an event as it is stored."""

    name: str
    data: bytes


def pack(parts: Sequence[Part]) -> bytes:
    """The bytes of a record with these parts."""
    return VERSION + _encode(parts)


def unpack(data: bytes) -> Sequence[Part]:
    """The parts of a record. Raises `StateError` for bytes that are none."""
    version = data[:1]
    if version != VERSION:
        raise StateError(
            f"its bytes are of version {version.hex() or 'none'}, which this release does not read:"
            " a newer one wrote them, or they are damaged"
        )
    try:
        return _decode(memoryview(data)[1:])
    except msgspec.DecodeError as error:
        raise StateError(f"its bytes are damaged: {error}") from error


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Part, ...]).decode
