"""A client follows one seed at a time, and the routes it knows never go back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from random import Random

import pytest
from census.v1 import census_pb2

from seedbed import contract, tables
from seedbed.calls import Failed, Metadata, Replied
from seedbed.client_session import ClientSession
from seedbed.descriptors import contract_of
from seedbed.errors import CallError, ProtocolError, Reason
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.resolver import Resolver
from seedbed.router import RouterLimits
from seedbed.routing import Owner, ShardTable
from seedbed.transport import Connection, Disconnected, Duplex, Methods, Server, Transport
from seedbed.v1 import cluster_pb2
from tests.support.waiting import until
from tests.unit.sdk.fake_network import ManualClock

GET = "/census.v1.Census/Get"


class ScriptedSeed(Duplex):
    """One WatchRoutes stream: says its lines, then ends, or waits."""

    def __init__(self, lines: Sequence[bytes | Disconnected | None]) -> None:
        self._lines = list(lines)

    async def opened(self) -> None:
        """As the router asks, of workers; none listens."""
        raise Disconnected(14, "connection refused", reached=False)

    async def write(self, message: bytes) -> None:
        cluster_pb2.WatchRoutesRequest.FromString(message)

    async def read(self) -> bytes | None:
        if not self._lines:
            await asyncio.Event().wait()
        line = self._lines.pop(0)
        if isinstance(line, Disconnected):
            raise line
        return line

    async def done_writing(self) -> None:
        pass

    def cancel(self) -> None:
        pass


class Seeds(Transport):
    """What each address says, one script for each time that it is asked."""

    def __init__(self, **scripts: list[Sequence[bytes | Disconnected | None]]) -> None:
        self.scripts = scripts
        self.asked: list[str] = []

    def server(self, *methods: Methods) -> Server:
        raise NotImplementedError

    def connect(self, address: str) -> Connection:
        return SeedConnection(self, address)


class SeedConnection(Connection):
    def __init__(self, seeds: Seeds, address: str) -> None:
        self._seeds = seeds
        self._address = address

    async def unary(
        self, method: str, request: bytes, *, timeout: float, metadata: Metadata = ()
    ) -> bytes:
        raise NotImplementedError

    def bidi(self, method: str, *, metadata: Metadata = ()) -> Duplex:
        self._seeds.asked.append(self._address)
        scripts = self._seeds.scripts.get(self._address, [])
        if not scripts:
            return ScriptedSeed([Disconnected(14, "connection refused", reached=False)])
        return ScriptedSeed(scripts.pop(0))

    async def close(self) -> None:
        pass


def update(
    *,
    revision: int = 1,
    generation: int = 0,
    snapshot: bool = True,
    seeds: str = "",
    lost_ms: int | None = None,
) -> bytes:
    incarnation = f"w-{generation}"
    owner = Owner(NodeId("w"), Incarnation(incarnation), "127.0.0.1", 1)
    table = ShardTable("census", 0, 1, Generation(generation), (owner,), (1,), (Epoch(generation),))
    service = census_pb2.DESCRIPTOR.services_by_name["Census"]
    one_shard = replace(contract_of(service), shard_count=1)
    lost: list[cluster_pb2.Lost] = []
    if lost_ms is not None:
        lost.append(cluster_pb2.Lost(incarnation=incarnation, available_in_ms=lost_ms))
    return cluster_pb2.RouteUpdate(
        revision=revision,
        unreachable=[one.incarnation for one in lost],
        lost=lost,
        snapshot=snapshot,
        tables=[tables.to_proto(table)] if generation else [],
        contracts=[contract.to_proto(one_shard)] if generation else [],
        seeds=[seeds] if seeds else [],
    ).SerializeToString()


@contextlib.asynccontextmanager
async def following(
    seeds: Seeds, *addresses: str, wrong: bool = False
) -> AsyncGenerator[list[cluster_pb2.RouteUpdate]]:
    taken: list[cluster_pb2.RouteUpdate] = []

    def changed(message: cluster_pb2.RouteUpdate) -> None:
        if wrong and not taken:
            taken.append(message)
            raise ProtocolError("a table that contradicts itself")
        taken.append(message)

    resolver = Resolver(
        transport=seeds, seeds=addresses, random=Random(1), changed=changed, first_update_s=0.05
    )
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(resolver.run())
        yield taken
        task.cancel()


async def test_updates_of_one_seed_are_taken_in_their_order() -> None:
    seeds = Seeds(a=[[update(revision=n, snapshot=n == 1) for n in (1, 2, 3)]])
    async with following(seeds, "a") as taken:
        await until("all are taken", lambda: len(taken) == 3, within=5)
    assert [one.revision for one in taken] == [1, 2, 3]


async def test_another_seed_is_followed_when_one_ends_breaks_or_says_nothing() -> None:
    broken = Disconnected(14, "reset", reached=True)
    for last in (None, broken):
        seeds = Seeds(a=[[update(), last], [], [update(revision=2)]])
        async with following(seeds, "a") as taken:
            await until("it came back", lambda: len(taken) == 2, within=5)
        assert seeds.asked == ["a", "a", "a"]


async def test_seeds_that_a_seed_names_are_tried_too() -> None:
    seeds = Seeds(a=[[update(seeds="b"), None]], b=[[update(revision=2)]])
    async with following(seeds, "a") as taken:
        await until("b is followed", lambda: len(taken) == 2, within=5)
    assert set(seeds.asked) == {"a", "b"}


async def test_garbage_and_updates_that_cannot_be_taken_end_the_stream() -> None:
    seeds = Seeds(a=[[b"\xff\xff"], [update()], [update(revision=2)]])
    async with following(seeds, "a", wrong=True) as taken:
        await until("the third is taken", lambda: len(taken) == 2, within=5)


async def test_no_answer_at_all_is_tried_again_without_a_hot_loop() -> None:
    seeds = Seeds()
    async with following(seeds, "a", "b"):
        await until("both are tried", lambda: len(seeds.asked) >= 4, within=5)
    assert len(seeds.asked) < 50


@contextlib.asynccontextmanager
async def session(
    *lines: bytes, seeds: Seeds | None = None, clock: ManualClock | None = None
) -> AsyncGenerator[ClientSession]:
    seeds = seeds or Seeds(a=[[line, None] for line in lines])
    it = ClientSession(seeds, ["a"], RouterLimits(), clock or ManualClock())
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(it.run())
        yield it
        task.cancel()


def owner_of(it: ClientSession) -> str:
    place = it.router.table.place("census", 0)
    return place.owner.incarnation if place is not None and place.owner is not None else ""


async def test_an_older_snapshot_of_another_seed_does_not_turn_routes_back() -> None:
    async with session(
        update(revision=9, generation=5), update(revision=3, generation=4), update(revision=12)
    ) as it:
        await until("all are taken", lambda: it.router.table.revision == 12, within=5)
        assert owner_of(it) == ""  # the newest snapshot has no table any more
    async with session(update(revision=9, generation=5), update(revision=3, generation=4)) as it:
        await until("both are taken", lambda: it.router.table.revision == 3, within=5)
        assert owner_of(it) == "w-5"


async def test_a_restored_store_is_followed_by_generations() -> None:
    async with session(update(revision=9, generation=5), update(revision=3, generation=6)) as it:
        await until("it is taken", lambda: owner_of(it) == "w-6", within=5)


async def test_methods_are_known_from_the_first_snapshot_on() -> None:
    async with session(update(generation=5)) as it:
        await until("it is synced", it.synced.is_set, within=5)
        assert it.method(GET).type == "census"
        with pytest.raises(CallError, match=r"census\.v1\.Census") as caught:
            it.method("/a.B/C")
        assert caught.value.reason is Reason.UNKNOWN_METHOD


def call(it: ClientSession, timeout: float) -> asyncio.Future[Replied | Failed]:
    """A call of the one shard, whose owner does not answer."""
    request = census_pb2.Person(name="ann").SerializeToString()
    made = it.address(it.method(GET), request, it.deadline_ns(timeout, stream=False), None)
    return it.router.submit(made, repeatable=True, read_only=True).future


async def test_a_call_that_cannot_wait_for_a_lost_owner_is_answered_at_once() -> None:
    clock = ManualClock()
    async with session(update(generation=5, lost_ms=7_500), clock=clock) as it:
        await until("it is synced", it.synced.is_set, within=5)
        clock.advance(0.5)  # it has not come back by itself
        outcome = await call(it, 2.0)
        assert isinstance(outcome, Failed)
        assert (outcome.reason, outcome.retry_after_s) == (Reason.MOVING, 7.0)
        clock.advance(5.5)  # near its end
        waiting = [call(it, 2.5)]
        await until("it waits", lambda: it.router.parked == 1, within=5)
        clock.advance(2)  # past it
        waiting.append(call(it, 2.5))
        await until("both wait", lambda: it.router.parked == 2, within=5)
        assert not any(one.done() for one in waiting)


@pytest.mark.parametrize("lost_ms", [0, 1_000])
async def test_a_call_that_may_be_in_time_waits(lost_ms: int) -> None:
    async with session(update(generation=5, lost_ms=lost_ms)) as it:
        await until("it is synced", it.synced.is_set, within=5)
        waiting = call(it, 2.0)
        await until("it waits", lambda: it.router.parked == 1, within=5)
        assert not waiting.done()


async def test_calls_that_wait_are_answered_when_their_owner_is_lost_and_not_back_soon() -> None:
    seeds, clock = Seeds(a=[[update(generation=5), None]]), ManualClock()
    async with session(seeds=seeds, clock=clock) as it:
        await until("it is synced", it.synced.is_set, within=5)
        waiting = call(it, 2.0)
        await until("it waits for a Link", lambda: it.router.parked == 1, within=5)
        seeds.scripts["a"].append([update(revision=2, generation=5, lost_ms=9_000)])
        await until("that is told", lambda: it.router.table.revision == 2, within=5)
        assert not waiting.done()
        clock.advance(1)
        outcome = await waiting
        assert isinstance(outcome, Failed)
        assert (outcome.reason, outcome.retry_after_s) == (Reason.MOVING, 8.0)


async def test_an_owner_that_answers_again_is_lost_no_more() -> None:
    lines = [update(generation=5, lost_ms=7_500), update(revision=2, generation=5)]
    async with session(*lines) as it:
        await until("all is taken", lambda: it.router.table.revision == 2, within=5)
        waiting = call(it, 2.0)
        await until("it waits for a Link", lambda: it.router.parked == 1, within=5)
        assert not waiting.done()
