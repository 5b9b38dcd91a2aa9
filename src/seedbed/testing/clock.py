"""The clock of a test: it stands still, and only the cluster's `advance` moves it."""

from __future__ import annotations

from seedbed.clock import SystemClock

_MS = 1_000_000


class VirtualClock:
    """A `Clock`. It begins at the machine's time, so that it fits what a test says of today."""

    def __init__(self) -> None:
        machine = SystemClock()
        self._now_ns = machine.now_ns()
        self._ahead_ns = machine.wall_ms() * _MS - self._now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def wall_ms(self) -> int:
        return (self._now_ns + self._ahead_ns) // _MS

    def move_to(self, now_ns: int) -> None:
        """It never goes back."""
        self._now_ns = max(self._now_ns, now_ns)
