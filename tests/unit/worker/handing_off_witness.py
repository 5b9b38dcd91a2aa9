"""A region that notes what a worker must not do with its shards, and entities that tell it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from typing import ClassVar, TypeAlias

from probe.v1 import probe_pb2 as pb

from seedbed import ServicerContext
from seedbed.calls import NotHere, Replied
from seedbed.ids import Incarnation
from seedbed.routing import Release, ShardTable
from seedbed_worker.core.region import Region
from seedbed_worker.jobs import Answer
from tests.unit.worker.host_world import (
    GATES,
    ME,
    Probe,
    World,
    table,
)
from tests.unit.worker.test_handing_off import shard

Place: TypeAlias = tuple[int, int]
"""A shard in one epoch."""


class Player(Probe, durable=False):
    """Says when its turns begin."""

    turn_begins: ClassVar[Callable[[Player], None]]

    async def Write(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        self.turn_begins()
        await GATES.wait(request.gate)
        return self.answer()

    async def Read(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        self.turn_begins()
        return self.answer()

    async def Act(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        self.turn_begins()
        async with self.outside():
            await GATES.wait(request.gate)
        self.turn_begins()
        return self.answer()

    async def Watch(self, request: pb.Request, context: ServicerContext) -> AsyncIterator[pb.Reply]:
        self.turn_begins()
        async for _ in self.changes():
            yield self.answer()

    async def deactivating(self) -> None:
        if self.key == "leaver":
            await GATES.wait("leaver")


class Witness(Region):
    """A region, and an account of its own of what the worker may do."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.gone: set[Place] = set()
        self.limits: dict[Place, int] = {}
        self.newest = table(1, ME)
        self.serving: Incarnation | None = ME
        self.began: dict[str, Place] = {}
        self.answers: defaultdict[str, list[Answer]] = defaultdict(list)
        self.world: World | None = None

    @property
    def now(self) -> int:
        assert self.world is not None
        return self.world.clock.now

    def observe(self, tables: Iterable[ShardTable], now_ns: int) -> list[ShardTable]:
        changed = super().observe(tables, now_ns)
        for one in tables:
            if one.generation > self.newest.generation:
                self.newest = one
                for number, handoff in one.handoffs.items():
                    if self.mine(number):
                        limit_ns = now_ns + handoff.limit_ms * 1_000_000
                        self.limits.setdefault((number, one.epoch[number]), limit_ns)
        return changed

    def release(self, releases: Iterable[Release]) -> None:
        releases = list(releases)
        super().release(releases)
        for _, number, epoch in releases:
            place = (number, epoch)
            self.gone.add(place)
            if place not in self.limits:
                self.wrong.append(f"{place} was released and not in hand-off")
            self.wrong += [
                f"{place} was released while call {call} ran"
                for call, begun in self.began.items()
                if begun == place and not self.answers[call]
            ]

    def mine(self, number: int) -> int:
        """The epoch in which the shard is ours by the newest table; 0: it is not."""
        owner = self.newest.owner_of(number)
        ours = owner is not None and owner.incarnation == self.serving
        return self.newest.epoch[number] if ours else 0

    def leaves(self, number: int) -> bool:
        return (number, self.mine(number)) in self.limits

    def may_serve(self, place: Place, what: str) -> None:
        if place in self.gone:
            self.wrong.append(f"{what} in {place} after its release")
        if self.now >= self.limits.get(place, self.now + 1):
            self.wrong.append(f"{what} in {place} after its limit")
        if self.mine(place[0]) != place[1]:
            self.wrong.append(f"{what} in {place}, which is another's")

    def turn_begins(self, entity: Player) -> None:
        call, place = entity.turn.request_id, (shard(entity.key), entity.turn.epoch)
        self.may_serve(place, f"call {call} began a turn")
        if self.answers[call]:
            self.wrong.append(f"call {call} began a turn after its answer")
        self.began[call] = place

    def answered(self, call: str, number: int, answer: Answer) -> None:
        self.answers[call].append(answer)
        if len(self.answers[call]) > 1:
            self.wrong.append(f"call {call} has two answers")
        if isinstance(answer, NotHere) and call in self.began:
            self.wrong.append(f"call {call} is said not to have run")
        self.item(call, number, answer)

    def item(self, call: str, number: int, answer: Answer) -> None:
        if isinstance(answer, Replied):
            self.may_serve((number, answer.epoch), f"call {call} answered")
