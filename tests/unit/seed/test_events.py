"""What happens, told once, to any number of readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

import pytest

from seedbed.errors import CallError, Reason
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.routing import Handoff, Owner, ShardTable
from seedbed.transport import ServerStreamMethod, UnaryMethod
from seedbed.v1 import admin_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_seed import events as events_module
from seedbed_seed.cluster_story import MoveStory
from seedbed_seed.cluster_view import ViewChange
from seedbed_seed.events import EventLimits, Events, OverloadStory
from tests.unit.seed.declared import hello
from tests.unit.seed.desk import Desk, desk
from tests.unit.seed.scripted import ScriptedCall

ALL = pb.WatchEventsRequest()


class ScriptedClock:
    """Stands still unless a test moves it."""

    ns = 0

    def now_ns(self) -> int:
        return self.ns

    def wall_ms(self) -> int:
        return 1_000 + self.ns // 1_000_000


def event(number: int) -> pb.Event:
    return pb.Event(kind=pb.EVENT_KIND_ORDER, message=str(number))


@asynccontextmanager
async def reader(
    events: Events, request: pb.WatchEventsRequest = ALL
) -> AsyncGenerator[AsyncIterator[pb.Event]]:
    stream = events.watch(ScriptedCall(), request.SerializeToString())

    async def parsed() -> AsyncGenerator[pb.Event]:
        async for data in stream:
            yield pb.Event.FromString(data)

    async with aclosing(parsed()) as items:
        yield items


async def take(items: AsyncIterator[pb.Event], count: int) -> list[pb.Event]:
    async with asyncio.timeout(5):
        return [await anext(items) for _ in range(count)]


async def told_while_waiting(
    events: Events, items: AsyncIterator[pb.Event], what: pb.Event
) -> list[pb.Event]:
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(take(items, 1))
        await asyncio.sleep(0)
        events.tell(what)
    return waiting.result()


async def test_a_reader_hears_what_was_and_then_what_comes() -> None:
    events = Events(ScriptedClock(), EventLimits())
    events.tell(event(1))
    async with reader(events) as items:
        assert [e.message for e in await take(items, 1)] == ["1"]
        (second,) = await told_while_waiting(events, items, event(2))
        assert (second.message, second.time_ms) == ("2", 1000)
    async with reader(events, pb.WatchEventsRequest(only_new=True)) as items:
        (third,) = await told_while_waiting(events, items, event(3))
        assert third.message == "3"


async def test_a_slow_reader_is_told_how_many_it_missed() -> None:
    events = Events(ScriptedClock(), EventLimits(kept=3))
    events.tell(event(0))
    async with reader(events) as items:
        await take(items, 1)
        for number in range(1, 8):
            events.tell(event(number))
        missed, *rest = await take(items, 4)
    assert (missed.kind, missed.missed) == (pb.EVENT_KIND_MISSED, 4)
    assert [e.message for e in rest] == ["5", "6", "7"]


async def test_readers_are_bounded_and_end_with_the_seed() -> None:
    events = Events(ScriptedClock(), EventLimits(readers=1))
    events.tell(event(1))
    async with reader(events) as items:
        await take(items, 1)
        async with reader(events) as others:
            with pytest.raises(CallError) as full:
                await anext(others)
        assert full.value.reason is Reason.OVERLOADED
        events.stop()
        with pytest.raises(CallError, match="going away") as gone:
            await take(items, 1)
        assert gone.value.reason is Reason.SEED_NOT_READY
    async with reader(events) as items:
        with pytest.raises(CallError, match="going away"):
            await take(items, 1)


async def test_garbage_is_refused() -> None:
    with pytest.raises(CallError) as refused:
        await anext(
            aiter(Events(ScriptedClock(), EventLimits()).watch(ScriptedCall(), b"\xff\xff"))
        )
    assert refused.value.reason is Reason.BAD_REQUEST


async def test_overloaded_answers_are_counted_by_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "OVERLOAD_S", 0.01)
    events = Events(ScriptedClock(), EventLimits())
    story = OverloadStory(events)
    for type_ in ("cup", "mug", "cup", "cup"):
        story.answered(type_)
    async with reader(events) as items:
        told = await take(items, 2)
        story.answered("cup")
        told += await take(items, 1)
    assert [(e.type, e.calls, e.reason) for e in told] == [
        ("cup", 3, "OVERLOADED"),
        ("mug", 1, "OVERLOADED"),
        ("cup", 1, "OVERLOADED"),
    ]


# Moves, from the tables.


def table(
    generation: int, owner: Sequence[int], handoffs: Mapping[int, str], epoch: Sequence[int]
) -> ShardTable:
    owners = tuple(
        Owner(NodeId(node), Incarnation(f"{node}-1"), "127.0.0.1", 4000) for node in ("w1", "w2")
    )
    return ShardTable(
        type="cup",
        chunk=0,
        shard_count=len(owner),
        generation=Generation(generation),
        owners=owners,
        owner=tuple(owner),
        epoch=tuple(map(Epoch, epoch)),
        handoffs={shard: Handoff(Incarnation(to), 1000) for shard, to in handoffs.items()},
    )


class Moves:
    """A story of moves and what it told."""

    def __init__(self) -> None:
        self.clock = ScriptedClock()
        self.told: list[pb.Event] = []
        self._story = MoveStory(self.clock, self.told.append, lambda i: i.rpartition("-")[0])
        self._revision = 0

    def see(self, *tables: ShardTable) -> list[tuple[str, list[int], str, str, int]]:
        """What these tables tell: kind, shards, from, to, duration."""
        self._revision += 1
        self.told.clear()
        first = self._revision == 1
        self._story.seen(ViewChange(self._revision, snapshot=first, tables=tables))
        return [
            (
                pb.EventKind.Name(e.kind).removeprefix("EVENT_KIND_"),
                list(e.shards),
                e.from_node,
                e.to_node,
                e.took_ms,
            )
            for e in self.told
        ]


def test_a_hand_off_is_told_when_it_begins_and_when_it_ends_with_its_duration() -> None:
    moves = Moves()
    assert moves.see(table(1, [1, 1, 1, 1], {}, [1, 1, 1, 1])) == []
    begun = moves.see(table(2, [1, 1, 1, 1], {1: "w2-1", 2: "w2-1"}, [1, 1, 1, 1]))
    assert begun == [("MOVE_BEGUN", [1, 2], "w1", "w2", 0)]
    moves.clock.ns = 40_000_000
    one = moves.see(table(3, [1, 2, 1, 1], {2: "w2-1"}, [1, 3, 1, 1]))
    assert one == [("MOVED", [1], "w1", "w2", 40)]
    moves.clock.ns = 90_000_000
    other = moves.see(table(4, [1, 2, 2, 1], {}, [1, 3, 4, 1]))
    assert other == [("MOVED", [2], "w1", "w2", 90)]


def test_what_is_under_way_when_the_seed_starts_is_told_when_it_ends() -> None:
    moves = Moves()
    assert moves.see(table(1, [1, 1], {0: "w2-1"}, [1, 1])) == []
    moves.clock.ns = 5_000_000
    assert moves.see(table(2, [2, 1], {}, [2, 1])) == [("MOVED", [0], "w1", "w2", 5)]


def test_a_hand_off_that_ends_where_it_began_is_told_as_such() -> None:
    moves = Moves()
    moves.see(table(1, [1, 1], {}, [1, 1]))
    moves.see(table(2, [1, 1], {0: "w2-1"}, [1, 1]))
    assert moves.see(table(3, [1, 1], {}, [3, 1])) == [("MOVED", [0], "w1", "w1", 0)]
    assert "stayed on w1" in moves.told[0].message


def test_first_owners_and_crashes_have_no_duration_and_new_epochs_are_no_moves() -> None:
    moves = Moves()
    moves.see()
    first = moves.see(table(1, [1, 2], {}, [1, 1]))
    assert first == [("MOVED", [0], "", "w1", 0), ("MOVED", [1], "", "w2", 0)]
    assert moves.see(table(2, [2, 2], {}, [2, 1])) == [("MOVED", [0], "w1", "w2", 0)]
    assert moves.see(table(3, [2, 2], {}, [3, 1])) == []
    assert moves.see(table(4, [0, 2], {}, [4, 1])) == [("MOVED", [0], "w2", "", 0)]


# All of it, from a seed.


async def heard(seed: Desk) -> list[pb.Event]:
    """What the seed remembers."""
    found = seed.admin.find("/seedbed.v1.Admin/WatchEvents")
    assert isinstance(found, ServerStreamMethod)
    marker = "the end"
    seed.events.tell(pb.Event(message=marker))
    told: list[pb.Event] = []
    async for data in found.handler(ScriptedCall(), b""):
        told.append(pb.Event.FromString(data))
        if told[-1].message == marker:
            return told[:-1]
    raise AssertionError("the stream ended")


async def test_a_seed_tells_of_members_leaders_orders_moves_stuck_drains_and_refusals() -> None:
    async with desk(ttl_s=3, driving=True) as seed:
        worker, _ = await seed.join(hello(incarnation="w1-a"))
        await worker.ack()
        await seed.until("a table", lambda: ("cup", 0) in seed.view.tables)
        call = ScriptedCall("/seedbed.v1.Admin/Drain")
        drain = seed.admin.find(call.method)
        assert isinstance(drain, UnaryMethod)
        await drain.handler(call, pb.DrainRequest(node_id="w1").SerializeToString())
        wrong = hello("w2")
        wrong.cluster = "other"
        await seed.connect(wrong).expect("refused")
        told = await heard(seed)
    of_kind = {pb.EventKind.Name(e.kind).removeprefix("EVENT_KIND_"): e for e in told}
    assert of_kind["LEADER"].node_id == "s1"
    members = [(e.node_id, e.status) for e in told if e.kind == pb.EVENT_KIND_MEMBER]
    assert ("w1", store_pb2.MEMBER_STATUS_UP) in members
    assert ("s1", store_pb2.MEMBER_STATUS_UP) in members
    assert (of_kind["MOVED"].to_node, len(of_kind["MOVED"].shards)) == ("w1", 16)
    assert (of_kind["ORDER"].node_id, of_kind["ORDER"].message) == ("w1", "w1 is to drain")
    assert (of_kind["STUCK"].node_id, of_kind["STUCK"].type) == ("w1", "cup")
    assert (of_kind["REFUSED"].node_id, bool(of_kind["REFUSED"].reason)) == ("w2", True)
