"""How busy this worker is, as its heartbeats tell it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import nlargest
from typing import Final

from seedbed.clock import Clock
from seedbed.service.metrics import Calls
from seedbed_worker.cells import Shard
from seedbed_worker.session_wire import LoadSummary, ShardRate

HOTTEST: Final = 64
"""So many of the busiest shards a heartbeat names."""


class LoadMeter:
    """Reads counters that the loop writes; called by one thread (the session's)."""

    def __init__(
        self,
        clock: Clock,
        counters: Sequence[Calls],
        active_entities: Callable[[], int],
        shards: Callable[[], Iterable[tuple[str, Shard]]],
    ) -> None:
        """`shards` gives what there is, by type, as a copy: the loop changes it meanwhile."""
        self._clock = clock
        self._counters = tuple(counters)
        self._active_entities = active_entities
        self._last_ns = clock.now_ns()
        self._last_calls = 0
        self._shards = shards
        self._last_of: dict[Shard, int] = {}

    def read(self) -> LoadSummary:
        """The load since the last reading."""
        now_ns, calls = self._clock.now_ns(), sum(sum(one.codes) for one in self._counters)
        seconds = max(1, now_ns - self._last_ns) / 1e9
        rate = (calls - self._last_calls) / seconds
        self._last_ns, self._last_calls = now_ns, calls
        return LoadSummary(self._active_entities(), rate, self._hottest(seconds))

    def _hottest(self, seconds: float) -> tuple[ShardRate, ...]:
        last, now, rates = self._last_of, dict[Shard, int](), list[ShardRate]()
        for type_, shard in self._shards():
            calls = now[shard] = shard.calls
            if more := calls - last.get(shard, 0):
                rates.append(ShardRate(type_, shard.number, more / seconds))
        self._last_of = now
        return tuple(nlargest(HOTTEST, rates, key=lambda one: one.calls_per_s))
