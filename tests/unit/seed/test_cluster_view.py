"""What the one watch makes of the store, and what followers of a seed are told of it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from seedbed import tables as codec
from seedbed.errors import Reason
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.routing import Owner, ShardTable
from seedbed.status import reason_of
from seedbed.transport import ServerStreamMethod, StatusError
from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_seed.routes import RouteReader, Watches
from seedbed_seed.store import Delete, Get, Put, Snapshot
from tests.unit.seed.declared import declaration, hello
from tests.unit.seed.desk import Desk, desk
from tests.unit.seed.scripted import ScriptedCall


def table(generation: int, chunk: int = 0, type_: str = "cup") -> store_pb2.AllocationTable:
    return codec.to_proto(
        ShardTable(
            type=type_,
            chunk=chunk,
            shard_count=2048,
            generation=Generation(generation),
            owners=(Owner(NodeId("w1"), Incarnation("w1-1"), "127.0.0.1", 4000),),
            owner=(1,) * 1024,
            epoch=(Epoch(generation),) * 1024,
        )
    )


def read(reader: RouteReader) -> pb.RouteUpdate | None:
    data = reader.take()
    return pb.RouteUpdate.FromString(data) if data is not None else None


def follow(seed: Desk) -> RouteReader:
    return seed.routes.reader(lambda: None, register=False)


async def test_a_follower_gets_a_snapshot_and_then_only_what_changed() -> None:
    async with desk() as seed:
        reader = follow(seed)
        first = read(reader)
        assert first is not None
        assert first.snapshot
        revision = await seed.put_table(table(1))
        await seed.put_table(table(2, chunk=1))
        await seed.view.reached(revision + 1)
        both = read(reader)
        assert both is not None
        assert not both.snapshot
        assert [(t.chunk, t.generation) for t in both.tables] == [(0, 1), (1, 2)]
        assert both.revision == revision + 1
        assert read(reader) is None


async def test_a_slow_follower_gets_the_newest_state_and_no_queue() -> None:
    async with desk() as seed:
        reader = follow(seed)
        read(reader)
        for generation in range(1, 100):
            await seed.put_table(table(generation))
        await seed.view.reached(await seed.put_table(table(100)))
        update = read(reader)
        assert update is not None
        assert [t.generation for t in update.tables] == [100]


async def test_a_new_snapshot_of_the_watch_is_one_for_the_followers_too() -> None:
    async with desk() as seed:
        await seed.view.reached(await seed.put_table(table(1)))
        reader = follow(seed)
        read(reader)
        seed.view.apply(Snapshot(seed.view.revision + 5, ()))
        update = read(reader)
        assert update is not None
        assert update.snapshot
        assert not update.restored
        assert not update.tables
        seed.view.apply(Snapshot(1, (), restored=True))
        update = read(reader)
        assert update is not None
        assert update.restored
        assert update.revision == 1
        assert read(follow(seed)) is not None


async def test_a_deleted_table_is_forgotten() -> None:
    async with desk() as seed:
        await seed.put_table(table(1))
        await seed.view.reached(await seed.put_table(table(1, chunk=1)))
        reader = follow(seed)
        read(reader)
        outcome = await seed.store.write(Delete(seed.keys.table("cup", 0)))
        await seed.view.reached(outcome.revision)
        update = read(reader)
        assert update is not None
        assert update.snapshot
        assert [t.chunk for t in update.tables] == [1]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("members/worker/w9", b"\xff\xff"),
        ("members/worker/w9", b""),
        ("members/seed/s9", b"\xff"),
        ("tables/cup/0", b"\xff"),
        ("tables/cup/0", table(1, chunk=1).SerializeToString()),
        ("tables/cup/0", store_pb2.AllocationTable(type="cup", shard_count=8).SerializeToString()),
        ("contracts/cup", b"\xff"),
        ("something/else", b"\xff"),
    ],
)
async def test_what_does_not_parse_is_left_out_and_stops_nothing(key: str, value: bytes) -> None:
    async with desk() as seed:
        await seed.view.reached(await seed.put_table(table(7, type_="good")))
        outcome = await seed.store.write(Put(seed.keys.prefix + key, value))
        await seed.view.reached(outcome.revision)
        assert set(seed.view.tables) == {("good", 0)}
        assert not seed.view.workers
        revision = await seed.put_table(table(8, type_="good"))
        await seed.view.reached(revision)
        assert seed.view.tables["good", 0].generation == 8
        reading = await seed.store.read(Get(seed.keys.prefix, prefix=True))
        seed.view.apply(Snapshot(revision + 1, reading.answers[0]))
        assert set(seed.view.tables) == {("good", 0)}


async def test_membership_reads_as_a_story(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "seedbed_seed.story")
    async with desk() as seed:
        worker, _ = await seed.join(hello(incarnation="w1-a"))
        await worker.ack()
        await seed.until_status("w1", store_pb2.MEMBER_STATUS_UP)
        worker.send(pb.WorkerMessage(draining=pb.Draining()))
        await seed.until_status("w1", store_pb2.MEMBER_STATUS_DRAINING)
        worker.send(pb.WorkerMessage(goodbye=pb.Goodbye()))
        await seed.until_gone("w1")
        lost, welcome = await seed.join(hello(incarnation="w1-b"))
        await lost.ack()
        await seed.store.revoke(welcome.lease_id)
        await seed.until_gone("w1")
    told = [(r.getMessage(), vars(r)["incarnation"]) for r in caplog.records]
    assert [event for event, incarnation in told if incarnation == "w1-a"] == [
        "member joining",
        "member up",
        "member draining",
        "member left",
    ]
    assert [event for event, incarnation in told if incarnation == "w1-b"] == [
        "member joining",
        "member up",
        "member down",
    ]


async def test_waiting_for_a_revision_ends_with_it() -> None:
    async with desk() as seed, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(seed.view.reached(seed.view.revision + 1))
        await asyncio.sleep(0)
        assert not waiting.done()
        await seed.put_table(table(1))
        async with asyncio.timeout(2):
            await waiting


async def test_watch_routes_follows_the_store_until_the_seed_goes() -> None:
    async with desk() as seed:
        watches = Watches(seed.view, seed.routes)
        method = watches.find("/seedbed.v1.Cluster/WatchRoutes")
        assert isinstance(method, ServerStreamMethod)
        request = pb.WatchRoutesRequest(protocol_min=1, protocol_max=1).SerializeToString()
        updates = aiter(method.handler(ScriptedCall(), request))
        async with asyncio.timeout(5):
            assert pb.RouteUpdate.FromString(await anext(updates)).snapshot
            await seed.put_table(table(3))
            update = pb.RouteUpdate.FromString(await anext(updates))
            assert [t.generation for t in update.tables] == [3]
            watches.stop()
            with pytest.raises(StatusError, match="going away"):
                await anext(updates)


async def test_watch_members_tells_all_of_them_after_each_change() -> None:
    async with desk() as seed:
        watches = Watches(seed.view, seed.routes)
        method = watches.find("/seedbed.v1.Cluster/WatchMembers")
        assert isinstance(method, ServerStreamMethod)
        updates = aiter(method.handler(ScriptedCall(), b""))
        async with asyncio.timeout(5):
            assert not pb.MemberUpdate.FromString(await anext(updates)).members
            await seed.join(hello())
            members = pb.MemberUpdate.FromString(await anext(updates)).members
            assert [member.node_id for member in members] == ["w1"]


@pytest.mark.parametrize(
    ("request_bytes", "reason"),
    [
        (b"\xff\xff", Reason.BAD_REQUEST),
        (pb.WatchRoutesRequest().SerializeToString(), Reason.PROTOCOL),
        (
            pb.WatchRoutesRequest(protocol_min=2, protocol_max=3).SerializeToString(),
            Reason.PROTOCOL,
        ),
    ],
)
async def test_a_follower_that_speaks_otherwise_is_refused(
    request_bytes: bytes, reason: Reason
) -> None:
    async with desk() as seed:
        watches = Watches(seed.view, seed.routes)
        with pytest.raises(StatusError) as raised:
            await anext(aiter(watches.watch_routes(ScriptedCall(), request_bytes)))
        assert reason_of(raised.value.details) is reason


async def test_a_type_is_kept_when_nobody_hosts_it() -> None:
    async with desk() as seed:
        await seed.contracts.register([declaration()])
        await seed.until("the type", lambda: "cup" in seed.view.contracts)
        update = read(follow(seed))
        assert update is not None
        assert list(update.types_without_workers) == ["cup"]
