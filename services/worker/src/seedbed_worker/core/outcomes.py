"""What an entity's latest calls came to, as far as it is in memory, and what that leaves open.

Theory. An outcome is recorded after its call's id was minted. So if all outcomes since some time
are in memory, an id that was minted later, and is not here, was never recorded: the store need not
be asked. That is so for nearly every call. Clocks of who mints and who records differ by SKEW_MS at
most: a worker whose clock is further off takes no shards. A name that a caller gave has no time in
it: unless all that is kept of the entity is here, the store has to be asked for it.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    """Of one entity. `complete`: nothing else was recorded of it, or only what counts no more."""

    __slots__ = ("_kept", "_since_ms", "size")

    def __init__(self, newest_first: Iterable[Kept], *, complete: bool) -> None:
        kept = list(newest_first)[::-1]
        self._kept = {one.request_id: one for one in kept}
        self._since_ms = 0 if complete or not kept else kept[0].time_ms
        self.size = sum(OVERHEAD + len(one.data) for one in kept)
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
        """Forget what counts no more, and then the oldest until there are so many bytes."""
        for request_id, one in list(self._kept.items()):
            if one.keep_until_ms > now_ms:
                if self.size <= most or len(self._kept) == 1:
                    break
                self._since_ms = max(self._since_ms, one.time_ms)
            del self._kept[request_id]
            self.size -= OVERHEAD + len(one.data)

    def may_be_stored(self, minted_ms: int | None) -> bool:
        """Might an id that is not here have been recorded, minted then (None: nobody knows)?"""
        if not self._since_ms:
            return False
        return minted_ms is None or minted_ms <= self._since_ms + SKEW_MS
