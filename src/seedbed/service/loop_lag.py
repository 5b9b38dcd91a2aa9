"""Measures how far an event loop lags behind, in a way that other threads can read meanwhile."""

from __future__ import annotations

import asyncio

from seedbed.clock import Clock


class LoopLag:
    """The loop beats, anybody asks how late the next beat is: also while the loop stands still."""

    __slots__ = ("_beat_ns", "_clock", "_period_ns", "worst_ns")

    def __init__(self, clock: Clock, period_s: float = 0.1) -> None:
        self._clock = clock
        self._period_ns = int(period_s * 1e9)
        self._beat_ns = clock.now_ns()
        self.worst_ns = 0
        """The longest lag that ended so far."""

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(self._period_ns / 1e9)
            self.beat()

    def beat(self) -> None:
        """The loop runs now."""
        self.worst_ns = max(self.worst_ns, self.lag_ns())
        self._beat_ns = self._clock.now_ns()

    def lag_ns(self) -> int:
        """Time by which the next beat is late; 0 while it is not."""
        return max(0, self._clock.now_ns() - self._beat_ns - self._period_ns)
