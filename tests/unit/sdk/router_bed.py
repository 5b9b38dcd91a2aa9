"""A router against scripted workers on a network in memory; the test moves the deadlines' clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from seedbed.calls import EntityCall, Failed, Replied
from seedbed.errors import Reason
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.router import Router, RouterLimits
from seedbed.routing import Handoff, Owner, RouteTable, ShardTable
from tests.support.waiting import until
from tests.unit.sdk.fake_network import FakeNetwork, FakeWorker, ManualClock

WITHIN = 5.0
SHARDS = 8


@dataclass
class Bed:
    """A router, two workers at one address each, and the tables that the test gives out."""

    router: Router
    clock: ManualClock
    a: FakeWorker
    b: FakeWorker
    revision: int = 0
    generation: int = 10
    unreachable: frozenset[Incarnation] = field(default_factory=frozenset[Incarnation])
    tasks: asyncio.TaskGroup | None = None

    def place(
        self,
        *owners: str,
        epoch: int | None = None,
        epochs: tuple[int, ...] = (),
        moving: bool = False,
    ) -> None:
        """Give all shards to these owners in turn, in a newer table; none: to nobody."""
        self.generation += 1
        self.revision += 1
        known = tuple(
            Owner(NodeId(name), Incarnation(f"{name}-1"), name, 1) for name in dict.fromkeys(owners)
        )
        given = epochs or (epoch if epoch is not None else self.generation,)
        index = {owner.node_id: n for n, owner in enumerate(known, 1)}
        table = ShardTable(
            "t",
            0,
            SHARDS,
            Generation(self.generation),
            known,
            tuple(
                index[NodeId(owners[shard % len(owners)])] if owners else 0
                for shard in range(SHARDS)
            ),
            tuple(Epoch(given[shard % len(given)]) for shard in range(SHARDS)),
            {s: Handoff(Incarnation("b-1"), 10_000) for s in range(SHARDS)} if moving else {},
        )
        self._changed(table)

    def silent(self, *names: str) -> None:
        """Say which owners are unreachable."""
        self.unreachable = frozenset(Incarnation(f"{name}-1") for name in names)
        self._changed()

    def without_workers(self) -> None:
        self.router.routes_changed(
            self.revision,
            [],
            snapshot=False,
            unreachable=frozenset(),
            without_workers=frozenset({"t"}),
        )

    def forget_all(self) -> None:
        """A snapshot of a store that has no tables."""
        self.revision += 1
        self.router.routes_changed(
            self.revision,
            [],
            snapshot=True,
            unreachable=frozenset(),
            without_workers=frozenset(),
        )

    def links(self) -> int:
        """Links to the first worker."""
        all_links = self.router._links.all()  # pyright: ignore[reportPrivateUsage]
        return sum(incarnation == "a-1" for incarnation, _ in all_links)

    def call(self, *, timeout: float | None = 5.0, shard: int = 1, key: str = "k") -> EntityCall:
        deadline_ns = None if timeout is None else self.clock.now_ns() + int(timeout * 1e9)
        return EntityCall("/p.S/M", "t", key, shard, b"payload", deadline_ns, request_id="id-1")

    def start(
        self, call: EntityCall | None = None, *, repeatable: bool = True, read_only: bool = False
    ) -> asyncio.Task[Replied | Failed]:
        assert self.tasks is not None
        coroutine = self.router.unary(
            call or self.call(), repeatable=repeatable, read_only=read_only
        )
        return self.tasks.create_task(coroutine)

    async def sent(self, worker: FakeWorker, calls: int = 1) -> None:
        await until(f"{calls} calls have reached it", lambda: len(worker.calls) >= calls, within=5)

    async def parked(self, calls: int = 1) -> None:
        await until(f"{calls} calls wait", lambda: self.router.parked == calls, within=5)

    def _changed(self, *tables: ShardTable) -> None:
        self.router.routes_changed(
            self.revision,
            tables,
            snapshot=False,
            unreachable=self.unreachable,
            without_workers=frozenset(),
        )


class Later:
    """An outlook: every shard without an owner gets one in this time."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.back_s = 0.0

    def available_in_s(self, type: str, shard: int) -> float | None:  # noqa: A002
        return self.seconds

    def back_within_s(self, type: str, shard: int) -> float:  # noqa: A002
        return self.back_s


@contextlib.asynccontextmanager
async def bed(
    *, limits: RouterLimits | None = None, outlook: Later | None = None
) -> AsyncGenerator[Bed]:
    clock = ManualClock()
    network = FakeNetwork()
    workers = [FakeWorker(clock), FakeWorker(clock)]
    network.workers = {"a:1": workers[0], "b:1": workers[1]}
    router = Router(
        transport=network,
        clock=clock,
        node="here",
        limits=limits or RouterLimits(),
        table=RouteTable(),
        outlook=outlook,
    )
    async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as group:
        running = group.create_task(router.run())
        await asyncio.sleep(0)
        yield Bed(router, clock, workers[0], workers[1], tasks=group)
        running.cancel()


def reason(outcome: Replied | Failed) -> Reason | None:
    assert isinstance(outcome, Failed)
    return outcome.reason


async def collect(stream: AsyncIterator[bytes]) -> list[bytes]:
    return [item async for item in stream]
