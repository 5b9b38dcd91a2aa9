"""The one place that reads the time: everything else is given a `Clock`, so that tests own it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one to measure waits and leases with, one to tell people the time."""

    def now_ns(self) -> int:
        """Nanoseconds on a clock that never jumps, and runs on while the machine sleeps."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970 (UTC); may jump."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        """Read CLOCK_BOOTTIME: unlike CLOCK_MONOTONIC it counts a suspended machine's sleep."""
        return time.clock_gettime_ns(_BOOTTIME)

    def wall_ms(self) -> int:
        """Read the wall clock."""
        return time.time_ns() // 1_000_000


_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Only Linux has it; elsewhere (development only) the monotonic clock stands in."""
