"""What all entities of a worker share: clock, lease, limits and their counts, tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from seedbed.clock import Clock
from seedbed.deadlines import TICK_NS, Deadlines
from seedbed.request_ids import RequestIds
from seedbed.tracing import Tracer
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.region import Region
from seedbed_worker.runners import Runners

if TYPE_CHECKING:
    import grpc.aio  # only named

    from seedbed_worker.reminders import Reminders  # they have the runtime


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Bounds of a host. The names in messages are the settings that set them."""

    mailbox_calls: int = 1000
    """SEEDBED_MAILBOX_CALLS: calls queued or running per entity; streams likewise."""
    type_calls: int = 10_000
    """SEEDBED_TYPE_CALLS: the same per type."""
    worker_calls: int = 20_000
    """SEEDBED_WORKER_CALLS: the same in all, waiting for a table included."""
    max_entities: int = 100_000
    """SEEDBED_MAX_ENTITIES: entities in memory."""
    idle_timeout_s: float = 120.0
    """SEEDBED_IDLE_TIMEOUT_S, for types that do not say their own."""
    handoff_timeout_s: float = 10.0
    """SEEDBED_HANDOFF_TIMEOUT_S: what `deactivating()` may take."""
    max_message_bytes: int = 4 * 1024 * 1024
    """SEEDBED_MAX_MESSAGE_BYTES: of a reply or an item."""
    onward_calls: int = 256
    """SEEDBED_ONWARD_CALLS: calls to other entities under way for one turn; others of it wait."""
    repeat_window_s: float = 3600.0
    """SEEDBED_REPEAT_WINDOW_S: so long the outcome under a caller's own name of a call is kept."""
    repeat_bytes: int = 64 * 1024 * 1024
    """SEEDBED_REPEAT_BYTES: outcomes of one type's calls in memory; others are read again."""
    reminders_at_once: int = 256
    """SEEDBED_REMINDERS_AT_ONCE: turns of reminders that wait or run."""
    reminders_in_memory: int = 10_000
    """SEEDBED_REMINDERS_IN_MEMORY: stored ones that are in memory, since they are due soon."""
    reminder_window_s: float = 60.0
    """SEEDBED_REMINDER_WINDOW_S: what soon means."""
    reminder_timeout_s: float = 300.0
    """SEEDBED_REMINDER_TIMEOUT_S: what one attempt may take, its time in line included."""
    stream_stall_s: float = 30.0
    """A stream's reader that takes nothing for so long is ended."""


class CallCounter(Protocol):
    """Counts the calls of one method."""

    def observe(self, code: int, took_ns: int) -> None: ...

    def ended(self, code: int) -> None: ...


class CallMetrics(Protocol):
    """Where calls are counted."""

    def calls(self, type_: str, method: str) -> CallCounter: ...


class Expiring(Hashable, Protocol):
    """What a timer ends."""

    def expire(self) -> None: ...


class Timers:
    """One timer of the loop for all deadlines of a worker; it runs only while there are any.

    A call comes here when it has to wait for something: one that does not is over sooner than any
    timer could end it.
    """

    __slots__ = ("_clock", "_deadlines", "_handle", "_loop")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadlines = Deadlines[Expiring]()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Use the running loop from now on."""
        self._loop = asyncio.get_running_loop()
        self._arm()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop = None

    def add(self, at_ns: int, item: Expiring) -> int:
        """Expire the item then; what is returned takes it back by `discard`."""
        tick = self._deadlines.add(at_ns, item)
        if self._handle is None:
            self._arm()
        return tick

    def discard(self, tick: int, item: Expiring) -> None:
        self._deadlines.discard(tick, item)

    def next_due_ns(self) -> int | None:
        """When `fire` has something to do next; None while there is nothing."""
        return self._deadlines.next_ns()

    def fire(self) -> None:
        """Expire what is due."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        for item in self._deadlines.due(self._clock.now_ns()):
            item.expire()
        self._arm()

    def _arm(self) -> None:
        if self._loop is not None and self._handle is None and self._deadlines:
            self._handle = self._loop.call_later(TICK_NS / 1e9, self.fire)


class Runtime:
    """One for each host; entities of all types hold it."""

    __slots__ = (
        "calls", "channel", "clock", "lease", "limits", "live", "metrics", "node_id",
        "region", "reminders", "request_ids", "runners", "running", "streams", "timers", "tracer",
    )  # fmt: skip

    def __init__(
        self,
        *,
        region: Region,
        lease: Lease | None,
        clock: Clock,
        limits: HostLimits,
        node_id: str,
        metrics: CallMetrics,
        tracer: Tracer,
    ) -> None:
        self.region = region
        self.lease = lease
        self.clock = clock
        self.limits = limits
        self.node_id = node_id
        self.metrics = metrics
        self.tracer = tracer
        self.channel: grpc.aio.Channel | None = None
        """What entities call others through."""
        self.timers = Timers(clock)
        self.request_ids = RequestIds(clock)
        self.runners = Runners()
        self.running = False
        """The host's own task has begun and not ended: turns may begin."""
        self.calls = 0
        """Unary calls that wait or run, and entities that leave."""
        self.streams = 0
        self.live = 0
        """Entities in memory."""

    reminders: Reminders
    """Those of the host, which sets it."""

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Run turns as children of this group."""
        self.runners.start(tasks)
        self.timers.start()
        self.running = True

    def stop(self) -> None:
        """The host's own task ends, and with it those of all turns."""
        self.running = False
        self.runners.stop()
        self.timers.stop()
