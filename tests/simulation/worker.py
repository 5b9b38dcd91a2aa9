"""A simulated worker: the real session core, lease and region, round entities that count."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from seedbed.ids import Incarnation, NodeId
from seedbed_worker.core import session_events as ev
from seedbed_worker.core import session_messages as msg
from seedbed_worker.core.region import Region
from seedbed_worker.core.seeds import SeedBook
from seedbed_worker.core.session import Phase, SessionCore, margin_ns
from tests.simulation.calls import HANDOFF_NS, TTL_NS
from tests.simulation.departure import Departure
from tests.simulation.kernel import MS, Process
from tests.simulation.streams import Stream
from tests.simulation.turns import Turns

if TYPE_CHECKING:  # seed, worker and world know one another
    from tests.simulation.seed import SimSeed
    from tests.simulation.world import World

SLOWEST = (TTL_NS - margin_ns(TTL_NS) + HANDOFF_NS) / (TTL_NS + HANDOFF_NS)
"""The rate of a worker's clock by which it serves just as long as the coordinator waits: one lease
is shorter by its margin, and no hand-off is."""
FASTEST = 1.09


class SimWorker:
    """`session` and `loop` are its two threads; each can stand still by itself."""

    region_class: type[Region] = Region
    session_class: type[SessionCore] = SessionCore
    turns_class: type[Turns] = Turns

    def __init__(self, world: World, index: int, version: str = "") -> None:
        self.world = world
        self.kernel = world.kernel
        self.name = f"worker-{index}"
        self.node_id = NodeId(self.name)
        self.port = 7000 + index
        self.version = version
        """Of the application; a process that starts later may have another."""
        rate = SLOWEST + (FASTEST - SLOWEST) * (0.01 + 0.99 * self.kernel.random.random())
        offset_ns = self.kernel.between(0, 10**15)
        self.session = Process(f"{self.name} session", rate, offset_ns)
        self.loop = Process(f"{self.name} loop", rate, offset_ns)
        self.streams: dict[int, Stream] = {}
        self.departure: Departure | None = None
        self.sluggish_until_ns = 0
        """Until then every other turn takes very long."""
        self._ids = 0

    # Its life.

    def start(self) -> None:
        self.session.begin()
        self.loop.begin()
        self.kernel.log(f"{self.name}: starts {self.version}")
        chance = self.kernel.random.random
        self.region = self.region_class(handoff_limit_ns=2 * HANDOFF_NS)
        self.core = self.session_class(
            seeds=SeedBook([seed.name for seed in self.world.seeds], chance),
            region=self.region,
            chance=chance,
            new_id=self._new_id,
        )
        self.streams = {}
        self.departure = None
        self.turns = self.turns_class(self)
        self._wake_at_ns: int | None = None
        self._carry_out(self.core.start(self._session_now()))

    def crash(self) -> None:
        if self.session.alive:
            self.kernel.log(f"{self.name}: crashes")
            self._end()

    def terminate(self, then: Callable[[], None]) -> None:
        """SIGTERM; `then` when the process has ended."""
        if not self.alive:
            self.kernel.after(0, None, then)
            return
        if self.departure is None:
            self.departure = Departure(self)
        self.departure.then.append(then)

    def pause(self, duration_ns: int, *processes: Process) -> None:
        for process in processes or (self.session, self.loop):
            self.kernel.log(f"{process.name}: stands still for {duration_ns // MS} ms")
            process.paused_until_ns = self.kernel.now_ns + duration_ns

    def _end(self) -> None:
        self.session.end()
        self.loop.end()
        for stream in self.streams.values():
            stream.up.send(None)
        self.world.network.worker_died(self)
        if self.departure is not None:
            self.departure.ended()

    @property
    def alive(self) -> bool:
        return self.session.alive

    @property
    def incarnation(self) -> Incarnation | None:
        """What it would answer to Identify."""
        return self.region.incarnation if self.alive else None

    def own_seed(self) -> SimSeed | None:
        """The seed of its oldest stream: the current one, not one that it is trying."""
        stream = self.streams[min(self.streams)] if self.streams else None
        return stream.seed if stream is not None else None

    # The session thread.

    def feed(self, event: ev.Event) -> None:
        now_ns = self._session_now()
        self._carry_out([*self.core.handle(event, now_ns), *self.core.tick(now_ns)])

    def heard(self, stream: Stream, message: msg.FromSeed | None) -> None:
        if message is None:
            self.streams.pop(stream.number, None)
            self.feed(ev.Ended(stream.number, "the stream ended"))
        else:
            self.feed(ev.Said(stream.number, message))

    def _carry_out(self, commands: list[ev.Command]) -> None:
        for command in commands:
            match command:
                case ev.Open(number, address, hello):
                    network = self.world.network
                    self.streams[number] = network.open_stream(self, number, address, hello)
                case ev.Send(number, message):
                    if (stream := self.streams.get(number)) is not None:
                        stream.up.send(message)
                case ev.Close(number, _):
                    if (stream := self.streams.pop(number, None)) is not None:
                        stream.down.close()
                        stream.up.send(None)
                case ev.TellFenced(incarnation, why):
                    self.kernel.log(f"{self.name}: fenced, {why}")
                    self._in_loop(partial(self.turns.drop_all, incarnation))
                case ev.TellTables() | ev.TellUp():
                    self._in_loop(self.turns.region_changed)
                case ev.TellLeft(farewell):
                    self.kernel.log(f"{self.name}: exits, {'' if farewell else 'no '}farewell")
                    self._end()
                    return
                case _:
                    self.kernel.log(f"{self.name}: {command}")
        self._set_timer()

    def _set_timer(self) -> None:
        wake_at_ns = self.core.wake_at_ns()
        if wake_at_ns is None or self.core.phase is Phase.LEFT:
            return
        real_ns = max(self.session.real(wake_at_ns), self.kernel.now_ns + MS)
        if self._wake_at_ns is None or real_ns < self._wake_at_ns:
            self._wake_at_ns = real_ns
            self.kernel.after(
                real_ns - self.kernel.now_ns, self.session, partial(self._timer, real_ns)
            )

    def _timer(self, real_ns: int) -> None:
        if self._wake_at_ns == real_ns:
            self._wake_at_ns = None
            self._carry_out(self.core.tick(self._session_now()))

    def _session_now(self) -> int:
        return self.session.local(self.kernel.now_ns)

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self.name}.{self.session.life}.{self._ids}"

    def _in_loop(self, action: Callable[[], None]) -> None:
        self.kernel.after(0, self.loop, action)
