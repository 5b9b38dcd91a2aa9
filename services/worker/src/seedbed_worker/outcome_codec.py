"""What a call was answered, as bytes that a record carries.

MessagePack of an array that begins with the number of its form, so that it can change.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

import msgspec

from seedbed.calls import EntityCall, Failed, Replied
from seedbed.ids import Epoch


class Told(msgspec.Struct, array_like=True, frozen=True):
    """An outcome, and whose it is."""

    method: str
    request: bytes
    """`digest` of what was asked."""
    code: int
    message: str
    data: bytes
    """The reply; of a status its details."""
    initial: tuple[tuple[str, Any], ...]
    trailing: tuple[tuple[str, Any], ...]
    """Values are text or bytes, which MessagePack tells apart and msgspec's types do not."""
    form: int = 1

    def answer(self, epoch: Epoch) -> Replied | Failed:
        """What is answered now, by the owner of this epoch."""
        if self.code == 0:
            return Replied(self.data, epoch, self.initial, self.trailing)
        return Failed(
            self.code,
            self.message,
            started=True,
            details=self.data,
            epoch=epoch,
            initial=self.initial,
            trailing=self.trailing,
        )


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(Told).decode


def digest(request: bytes) -> bytes:
    """Enough of a request to tell it from another one."""
    return blake2b(request, digest_size=8).digest()


def encode(call: EntityCall, answer: Replied | Failed) -> bytes:
    """The call and its answer."""
    if isinstance(answer, Replied):
        code, message, data = 0, "", answer.response
    else:
        code, message, data = answer.code, answer.message, answer.details
    told = Told(
        call.method, digest(call.request), code, message, data, answer.initial, answer.trailing
    )
    return _ENCODE(told)


def decode(data: bytes) -> Told:
    """Back again. Raises `msgspec.DecodeError` for anything else."""
    return _DECODE(data)
