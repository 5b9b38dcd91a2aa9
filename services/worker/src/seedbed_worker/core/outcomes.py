"""What an entity's latest calls came to, as far as it is in memory, and what that leaves open.

Theory. An outcome is recorded after its call's id was made. So if all outcomes since some time are
in memory, an id that was made later, and is not here, was never recorded: the store need not be
asked. Clocks of who makes ids and who records differ by SKEW_MS at most: a worker whose clock is
further off takes no shards. A name that a caller gave has no time in it: unless all that is kept of
the entity is here, the store has to be asked for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

SKEW_MS: Final = 60_000
"""Twice of what a worker's clock may differ from the seeds'."""

OVERHEAD: Final = 300
"""Bytes that an outcome takes beside its own, about."""


class Kept(NamedTuple):
    """A recorded outcome. Times are wall clock, in ms since 1970."""

    request_id: str
    data: bytes
    time_ms: int
    keep_until_ms: int


class Outcomes:
    """Of one entity: those since `since_ms`; 0: all of it, but for what counts no more."""

    __slots__ = ("_kept", "_since_ms", "size")

    def __init__(self, since_ms: int, newest_first: Sequence[Kept] = ()) -> None:
        self._kept = {one.request_id: one for one in reversed(newest_first)}
        self._since_ms = since_ms
        self.size = sum(OVERHEAD + len(one.data) for one in newest_first)
        """In bytes, about."""

    def get(self, request_id: str) -> Kept | None:
        """What the call of this id came to."""
        return self._kept.get(request_id)

    def add(self, one: Kept) -> None:
        """A call has come to this."""
        before = self._kept.pop(one.request_id, None)
        if before is not None:
            self.size -= OVERHEAD + len(before.data)
        self._kept[one.request_id] = one
        self.size += OVERHEAD + len(one.data)

    def trim(self, most: int, now_ms: int) -> None:
        """Forget what counts no more, and then the oldest until there are so many bytes; never the
        newest."""
        while len(self._kept) > 1:
            oldest = next(iter(self._kept.values()))
            if oldest.keep_until_ms > now_ms:
                if self.size <= most:
                    break
                self._since_ms = max(self._since_ms, oldest.time_ms)
            del self._kept[oldest.request_id]
            self.size -= OVERHEAD + len(oldest.data)

    def may_be_stored(self, made_ms: int | None) -> bool:
        """Might an id that is not here have been recorded, made then (None: nobody knows)?"""
        if not self._since_ms:
            return False
        return made_ms is None or made_ms <= self._since_ms + SKEW_MS
