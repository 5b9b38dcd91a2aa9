"""The one owner of time and chance: processes, their clocks, and messages between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Generic, TypeVar

MS = 1_000_000
SECOND = 1_000 * MS
START_NS = 1_000 * SECOND

EVENTS = 200_000
"""More of them in one run, which has some ten thousand, are a hot loop."""

Action = Callable[[], None]
M = TypeVar("M")


class Violation(AssertionError):
    """A promise was broken."""


class Process:
    """What can stand still or die. Events of an earlier life never happen."""

    def __init__(self, name: str, rate: float = 1.0, offset_ns: int = 0) -> None:
        self.name = name
        self.life = 0
        self.alive = False
        self.paused_until_ns = 0
        self._rate = rate
        self._offset_ns = offset_ns

    def begin(self) -> None:
        self.life += 1
        self.alive = True

    def end(self) -> None:
        self.alive = False
        self.paused_until_ns = 0

    def local(self, now_ns: int) -> int:
        """What this process' own clock shows."""
        return int(now_ns * self._rate) + self._offset_ns

    def real(self, local_ns: int) -> int:
        """When its clock will show this."""
        return int((local_ns - self._offset_ns) / self._rate) + 1


class Kernel:
    """Runs events in the order of their times, those of paused processes when they go on."""

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.random = Random(seed)
        self.now_ns = START_NS
        self.trace: list[str] | None = [] if traced else None
        self.events = 0
        self._heap: list[tuple[int, float, int, Process | None, int, Action]] = []
        self._order = 0
        self._holds: dict[tuple[str, str], int] = {}

    def after(self, delay_ns: int, process: Process | None, action: Action) -> None:
        """Let something happen to a process of this life (None: to the world) after a delay."""
        self._push(self.now_ns + delay_ns, process, process.life if process else 0, action)

    def run_until(self, end_ns: int) -> None:
        while self._heap and self._heap[0][0] <= end_ns:
            at_ns, _, _, process, life, action = heappop(self._heap)
            self.now_ns = max(self.now_ns, at_ns)
            if process is not None:
                if not process.alive or process.life != life:
                    continue
                if process.paused_until_ns > self.now_ns:
                    # What waited while it stood still comes in any order.
                    late = self.random.randrange(MS)
                    self._push(process.paused_until_ns + late, process, life, action)
                    continue
            self.events += 1
            if self.events > EVENTS:
                raise Violation("a hot loop: events without end")
            action()
        self.now_ns = end_ns

    def log(self, text: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{(self.now_ns - START_NS) / SECOND:9.4f} {text}")

    def between(self, low_ns: int, high_ns: int) -> int:
        return self.random.randrange(low_ns, high_ns)

    def hold(self, source: str, target: str, duration_ns: int) -> None:
        """Nothing that `source` sends reaches `target` for a while; then all of it does."""
        until_ns = self.now_ns + duration_ns
        self._holds[source, target] = max(until_ns, self._holds.get((source, target), 0))

    def release_all(self) -> None:
        self._holds.clear()

    def held_ns(self, source: str, target: str) -> int:
        """How much longer this way is held."""
        return max(0, self._holds.get((source, target), 0) - self.now_ns)

    def _push(self, at_ns: int, process: Process | None, life: int, action: Action) -> None:
        self._order += 1
        entry = (at_ns, self.random.random(), self._order, process, life, action)
        heappush(self._heap, entry)


class Channel(Generic[M]):
    """Messages one way, in order, each late by its own time; `close` loses what is under way."""

    def __init__(
        self,
        kernel: Kernel,
        source: str,
        target: Process,
        target_name: str,
        receive: Callable[[M], None],
        delay_ns: tuple[int, int] = (MS, 20 * MS),
    ) -> None:
        self._kernel = kernel
        self._way = (source, target_name)
        self._target = target
        self._receive = receive
        self._delay_ns = delay_ns
        self._queue: deque[M] = deque()
        self._lives = 0
        self._open = True

    def send(self, message: M) -> None:
        if self._open:
            self._queue.append(message)
            self._arrive_after(self._kernel.between(*self._delay_ns))

    def close(self) -> None:
        self._open = False
        self.lose()

    def lose(self) -> None:
        """What is under way never arrives."""
        self._queue.clear()
        self._lives += 1

    def _arrive_after(self, delay_ns: int) -> None:
        self._kernel.after(delay_ns, self._target, partial(self._arrive, self._lives))

    def _arrive(self, life: int) -> None:
        if life != self._lives:
            return
        if held_ns := self._kernel.held_ns(*self._way):
            self._arrive_after(held_ns + self._kernel.between(0, MS))
        elif self._queue:
            self._receive(self._queue.popleft())
