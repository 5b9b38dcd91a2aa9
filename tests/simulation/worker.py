"""A simulated worker: the real session core, lease and region, round entities that count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed_worker.core import session_events as ev
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.region import Admitted, EpochAhead, Refused, Region, Wait
from seedbed_worker.core.seeds import SeedBook
from seedbed_worker.core.session import Phase, SessionCore
from tests.simulation.calls import TTL_NS, Answer, Answered, Call, Lost, NotHere
from tests.simulation.kernel import MS, Channel, Process

if TYPE_CHECKING:  # seed, worker and world know one another
    from tests.simulation.seed import SimSeed
    from tests.simulation.world import World


@dataclass(slots=True)
class Stream:
    """One Register stream: both ways, and what has become of it at either end."""

    id: str
    number: int
    worker: SimWorker
    seed: SimSeed
    up: Channel[ev.Hello | ev.ToSeed | None]
    down: Channel[ev.FromSeed | None]
    """None is the end of the stream."""

    def break_down(self) -> None:
        """The connection is lost; both ends are told, each in its own time."""
        for channel in (self.up, self.down):
            channel.send(None)


@dataclass(eq=False, slots=True)
class _Waiting:
    call: Call
    epoch: Epoch
    generation: Generation
    from_seed: bool
    answer: Answer


@dataclass(eq=False, slots=True)
class _Turn:
    call: Call
    admitted: Admitted
    lease: Lease
    answer: Answer
    count: int = 0


@dataclass(slots=True)
class _Entity:
    """A shard's memory, as one incarnation has it in one epoch."""

    admitted: Admitted
    count: int = 0


class SimWorker:
    """`session` and `loop` are its two threads; each can stand still by itself."""

    region_class: type[Region] = Region
    session_class: type[SessionCore] = SessionCore

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.kernel = world.kernel
        self.name = f"worker-{index}"
        self.node_id = NodeId(self.name)
        self.port = 7000 + index
        # One lease is off by up to its margin, a tenth of the TTL.
        rate = 0.91 + 0.18 * self.kernel.random.random()
        offset_ns = self.kernel.between(0, 10**15)
        self.session = Process(f"{self.name} session", rate, offset_ns)
        self.loop = Process(f"{self.name} loop", rate, offset_ns)
        self.streams: dict[int, Stream] = {}
        self._ids = 0

    # Its life.

    def start(self) -> None:
        self.session.begin()
        self.loop.begin()
        self.kernel.log(f"{self.name}: starts")
        chance = self.kernel.random.random
        self.region = self.region_class()
        self.core = self.session_class(
            seeds=SeedBook([seed.name for seed in self.world.seeds], chance),
            region=self.region,
            chance=chance,
            new_id=self._new_id,
        )
        self.streams = {}
        self._entities: dict[tuple[str, int], _Entity] = {}
        self._turns: list[_Turn] = []
        self._waiting: list[_Waiting] = []
        self._wake_at_ns: int | None = None
        self._carry_out(self.core.start(self._session_now()))

    def crash(self) -> None:
        if self.session.alive:
            self.kernel.log(f"{self.name}: crashes")
            self.session.end()
            self.loop.end()
            for stream in self.streams.values():
                stream.up.send(None)
            self.world.worker_died(self)

    def pause(self, duration_ns: int, *processes: Process) -> None:
        for process in processes or (self.session, self.loop):
            self.kernel.log(f"{process.name}: stands still for {duration_ns // MS} ms")
            process.paused_until_ns = self.kernel.now_ns + duration_ns

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

    def idle(self) -> bool:
        return not (self._turns or self._waiting)

    # The session thread.

    def feed(self, event: ev.Event) -> None:
        now_ns = self._session_now()
        self._carry_out([*self.core.handle(event, now_ns), *self.core.tick(now_ns)])

    def heard(self, stream: Stream, message: ev.FromSeed | None) -> None:
        if message is None:
            self.streams.pop(stream.number, None)
            self.feed(ev.Ended(stream.number, "the stream ended"))
        else:
            self.feed(ev.Said(stream.number, message))

    def _carry_out(self, commands: list[ev.Command]) -> None:
        for command in commands:
            match command:
                case ev.Open(number, address, hello):
                    self.streams[number] = self.world.open_stream(self, number, address, hello)
                case ev.Send(number, message):
                    if (stream := self.streams.get(number)) is not None:
                        stream.up.send(message)
                case ev.Close(number, _):
                    if (stream := self.streams.pop(number, None)) is not None:
                        stream.down.close()
                        stream.up.send(None)
                case ev.TellFenced(incarnation, why):
                    self.kernel.log(f"{self.name}: fenced, {why}")
                    self._in_loop(partial(self._drop_all, incarnation))
                case ev.TellTables() | ev.TellUp():
                    self._in_loop(self._region_changed)
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

    # The loop.

    def call(
        self, call: Call, epoch: Epoch, generation: Generation, answer: Answer, *, from_seed: bool
    ) -> None:
        waiting = _Waiting(call, epoch, generation, from_seed, answer)
        self._consider(waiting)
        if waiting in self._waiting:
            self._in_loop(partial(self._give_up, waiting), TTL_NS)

    def _consider(self, waiting: _Waiting) -> None:
        call, lease = waiting.call, self.core.lease
        admission = self.region.admit(
            call.type, call.shard, waiting.epoch, waiting.generation, from_seed=waiting.from_seed
        )
        known = self.region.generation(call.type, call.shard)
        match admission:
            case Refused(generation):
                waiting.answer(NotHere(generation))
            case Admitted() if not (lease is not None and lease.valid(self._now())):
                waiting.answer(NotHere(known))
            case Admitted() if lease is not None and lease.attached:
                turn = _Turn(call, admission, lease, waiting.answer)
                self._turns.append(turn)
                self._later(self._take, turn, self.kernel.between(0, 2 * MS))
            case Admitted() | Wait() | EpochAhead():
                self._waiting.append(waiting)

    def _take(self, turn: _Turn) -> None:
        """The turn begins: its effect, and then whatever takes it so long."""
        call, admitted = turn.call, turn.admitted
        owned = self.region.owned(call.type, call.shard) == admitted.epoch
        if not (owned and turn.lease.valid(self._now())):
            self._turns.remove(turn)
            turn.answer(NotHere(self.region.generation(call.type, call.shard)))
            return
        entity = self._entities.get((call.type, call.shard))
        if entity is None or entity.admitted != admitted:
            entity = self._entities[call.type, call.shard] = _Entity(admitted)
        entity.count += 1
        turn.count = entity.count
        long = self.kernel.random.random() < 0.15
        self._later(self._finish, turn, self.kernel.between(0, TTL_NS // 2 if long else 5 * MS))

    def _finish(self, turn: _Turn) -> None:
        self._turns.remove(turn)
        if not self.may_reply(turn):
            turn.answer(Lost())
            return
        self.world.referee.decided(turn.call, turn.admitted.epoch)
        leave = partial(turn.answer, Answered(turn.admitted.epoch, turn.count))
        self._in_loop(leave, self.kernel.between(0, MS))

    def may_reply(self, turn: _Turn) -> bool:
        """The last look before an answer that no journal has recorded leaves."""
        call, admitted = turn.call, turn.admitted
        return turn.lease.valid(self._now()) and self.region.may_reply(
            admitted.incarnation, call.type, call.shard, admitted.epoch
        )

    def _region_changed(self) -> None:
        for (type_, shard), entity in list(self._entities.items()):
            if self.region.owned(type_, shard) != entity.admitted.epoch:
                del self._entities[type_, shard]
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            self._consider(one)

    def _drop_all(self, incarnation: Incarnation) -> None:
        self._entities.clear()
        turns, self._turns = self._turns, []
        for turn in turns:
            turn.answer(Lost())
        self._region_changed()
        self.kernel.after(
            self.kernel.between(0, MS), self.session, lambda: self.feed(ev.Dropped(incarnation))
        )

    def _give_up(self, waiting: _Waiting) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            call = waiting.call
            waiting.answer(NotHere(self.region.generation(call.type, call.shard)))

    def _later(self, step: Callable[[_Turn], None], turn: _Turn, delay_ns: int) -> None:
        def run() -> None:
            if turn in self._turns:
                step(turn)

        self._in_loop(run, delay_ns)

    def _in_loop(self, action: Callable[[], None], delay_ns: int = 0) -> None:
        self.kernel.after(delay_ns, self.loop, action)

    def _now(self) -> int:
        return self.loop.local(self.kernel.now_ns)
