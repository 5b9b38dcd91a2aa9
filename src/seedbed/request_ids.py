"""Names of calls whose caller gave none: UUIDs whose first part is a time, as in UUIDv7.

An edge mints them at random, version 7. Those of an entity's calls are derived, version 8, so that
a turn that is run again makes the same calls.
"""

from __future__ import annotations

from hashlib import blake2b
from random import Random, SystemRandom
from typing import Final

from seedbed.clock import Clock

_SEEDS: Final = SystemRandom()

_MINTED: Final = 0x7000
_DERIVED: Final = 0x8000


class RequestIds:
    """Mints ids. Unique by 74 random bits, from a generator that the system's entropy seeds."""

    __slots__ = ("_clock", "_random")

    def __init__(self, clock: Clock, random: Random | None = None) -> None:
        self._clock = clock
        self._random = random if random is not None else Random(_SEEDS.getrandbits(256))

    def mint(self) -> str:
        """A new id, as text in a UUID's usual form."""
        return _text(self._clock.wall_ms(), _MINTED, self._random.getrandbits(74))


class DerivedIds:
    """Ids that follow from whose they are (`owner`) and what they name; all carry one time.

    For the same owner, name and time the same id, for others another.
    """

    __slots__ = ("_at_ms", "_hash")

    def __init__(self, at_ms: int, *owner: str) -> None:
        self._at_ms = at_ms
        self._hash = blake2b(_bytes(owner), digest_size=10, person=b"seedbed-onward")

    def of(self, *name: str) -> str:
        """The id of what this names."""
        digest = self._hash.copy()
        digest.update(_bytes(name))
        bits = int.from_bytes(digest.digest(), "big") & (1 << 74) - 1
        return _text(self._at_ms, _DERIVED, bits)


def reminder_id(*place: str) -> str:
    """The id of a reminder's turn, which follows from what this names; it carries no time."""
    digest = blake2b(_bytes(place), digest_size=12, person=b"seedbed-remind")
    return f"reminder-{digest.hexdigest()}"


def _bytes(parts: tuple[str, ...]) -> bytes:
    # Each with its length, so that no two lists of parts are the same bytes.
    text = "".join([f"{len(part)}:{part}" for part in parts])
    return text.encode(errors="surrogatepass")


def minted_at_ms(request_id: str) -> int | None:
    """The time in an id of ours (ms since 1970); None for any other text."""
    text = request_id.replace("-", "")
    if len(text) != 32 or text[12] not in "78":
        return None
    try:
        return int(text[:12], 16)
    except ValueError:
        return None


def is_minted(request_id: str) -> bool:
    """Is it, of ids of ours, one that an edge has minted?"""
    return request_id[14:15] == "7"


def _text(ms: int, version: int, bits: int) -> str:
    # One format, because this is on the path of every call.
    return "%08x-%04x-%04x-%04x-%012x" % (  # noqa: UP031
        ms >> 16 & 0xFFFF_FFFF,
        ms & 0xFFFF,
        version | bits >> 62,
        0x8000 | bits >> 48 & 0x3FFF,
        bits & 0xFFFF_FFFF_FFFF,
    )
