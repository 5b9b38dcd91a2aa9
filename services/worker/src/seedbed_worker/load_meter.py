"""How busy this worker is, as its heartbeats tell it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seedbed.clock import Clock
from seedbed.service.metrics import Calls
from seedbed_worker.session_wire import LoadSummary


class LoadMeter:
    """Reads counters that the loop writes; called by one thread (the session's)."""

    def __init__(
        self, clock: Clock, counters: Sequence[Calls], active_entities: Callable[[], int]
    ) -> None:
        self._clock = clock
        self._counters = tuple(counters)
        self._active_entities = active_entities
        self._last_ns = clock.now_ns()
        self._last_calls = 0

    def read(self) -> LoadSummary:
        """The load since the last reading."""
        now_ns, calls = self._clock.now_ns(), sum(sum(one.codes) for one in self._counters)
        seconds = max(1, now_ns - self._last_ns) / 1e9
        rate = (calls - self._last_calls) / seconds
        self._last_ns, self._last_calls = now_ns, calls
        return LoadSummary(self._active_entities(), rate)
