"""When turns under callers' keys first ran, so that a repeat makes its calls under the same ids.

A caller's key has no time in it, and the ids of a turn's calls carry the time of its first attempt.
"""

from __future__ import annotations

from typing import Final, TypeAlias

Repeated: TypeAlias = tuple[str, str, str]
"""Entity type, key, and the id under which the turn may come again."""

LIMIT: Final = 100_000
"""Attempts that are remembered, some 20 MB; beyond it the oldest are forgotten early."""


class FirstAttempts:
    """Remembers them for a window of time."""

    def __init__(self, window_ms: int, limit: int = LIMIT) -> None:
        self._window_ms = window_ms
        self._limit = limit
        self._at_ms: dict[Repeated, int] = {}
        """In the order of their times, but for clocks that were set back."""

    def __len__(self) -> int:
        return len(self._at_ms)

    def at_ms(self, turn: Repeated, now_ms: int) -> int:
        """The time of its first attempt; that is now, if none is remembered."""
        known = self._at_ms
        first_ms = known.get(turn)
        if first_ms is not None and first_ms + self._window_ms > now_ms:
            return first_ms
        known.pop(turn, None)
        known[turn] = now_ms
        while (oldest := next(iter(known))) != turn and (
            len(known) > self._limit or known[oldest] + self._window_ms <= now_ms
        ):
            del known[oldest]
        return now_ms
