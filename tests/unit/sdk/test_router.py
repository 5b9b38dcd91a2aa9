"""A router against scripted workers on a network in memory; the test moves the deadlines' clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

import pytest

from seedbed.calls import EntityCall, Failed, NotHere, Replied
from seedbed.errors import Reason
from seedbed.frames import STREAM_CREDIT
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.link import LinkLimits
from seedbed.parking import ParkingLimits
from seedbed.router import Router, RouterLimits
from seedbed.routing import Handoff, Owner, RouteTable, ShardTable
from seedbed.status import reason_of
from seedbed.transport import StatusError
from tests.support.waiting import until
from tests.unit.sdk.fake_network import FakeNetwork, FakeWorker, ManualClock, echo, silence

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

    def call(self, *, timeout: float | None = 5.0, shard: int = 1) -> EntityCall:
        deadline_ns = None if timeout is None else self.clock.now_ns() + int(timeout * 1e9)
        return EntityCall("/p.S/M", "t", "k", shard, b"payload", deadline_ns, request_id="id-1")

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

    def available_in_s(self, type: str, shard: int) -> float | None:  # noqa: A002
        return self.seconds


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


async def test_a_call_goes_to_the_owner_of_its_shard_by_the_newest_table() -> None:
    async with bed() as it:
        it.place("a", "b")
        assert await it.start(it.call(shard=1)) == Replied(b"payload", Epoch(11))
        [call] = it.b.calls
        assert (call.epoch, call.generation, call.attempt) == (11, 11, 1)
        assert not it.a.calls


async def test_calls_that_start_together_travel_together() -> None:
    async with bed() as it:
        it.place("a")
        await it.start()
        outcomes = [it.start() for _ in range(50)]
        for outcome in outcomes:
            assert isinstance(await outcome, Replied)
        assert it.a.batches == 2


async def test_a_call_waits_for_the_first_owner() -> None:
    async with bed() as it:
        outcome = it.start()
        await it.parked()
        it.place()
        await it.parked()
        it.place("a")
        assert isinstance(await outcome, Replied)
        assert it.router.parked == 0


async def test_calls_that_waited_arrive_in_their_order() -> None:
    async with bed() as it:
        waiting: list[asyncio.Task[Replied | Failed]] = []
        for n in range(5):
            call = it.call()
            call.key = f"k{n}"
            waiting.append(it.start(call))
        await it.parked(5)
        it.place("a")
        for task in waiting:
            await task
        assert [call.key for call in it.a.calls] == ["k0", "k1", "k2", "k3", "k4"]


async def test_a_shard_in_hand_off_lets_its_calls_wait() -> None:
    async with bed() as it:
        it.place("a", moving=True)
        outcome = it.start()
        await it.parked()
        it.place("b")
        assert isinstance(await outcome, Replied)
        assert not it.a.calls


async def test_a_refused_call_is_not_repeated_before_there_is_a_newer_table() -> None:
    async with bed() as it:
        it.a.answer = lambda call: NotHere(call.generation)
        it.place("a")
        outcome = it.start(repeatable=False)
        await it.sent(it.a)
        await it.parked()
        for _ in range(3):  # news that change nothing about the table: no hot loop
            it.silent("somebody")
            it.silent()
        await it.parked()
        assert len(it.a.calls) == 1
        it.place("b")
        assert isinstance(await outcome, Replied)
        assert len(it.b.calls) == 1
        assert it.b.calls[0].attempt == 1


async def test_an_unreachable_owner_is_not_called_until_it_is_back() -> None:
    async with bed() as it:
        it.place("a")
        it.silent("a")
        outcome = it.start()
        await it.parked()
        it.silent()
        assert isinstance(await outcome, Replied)


async def test_a_refused_connection_is_tried_again_and_the_call_waits() -> None:
    async with bed() as it:
        it.a.listening = False
        it.place("a")
        outcome = it.start(repeatable=False)
        await it.parked()
        it.a.listening = True
        assert isinstance(await outcome, Replied)
        assert it.a.calls[0].attempt == 1


async def test_a_call_that_may_run_twice_is_repeated_once_when_its_worker_is_lost() -> None:
    async with bed() as it:
        it.a.answer = it.b.answer = silence
        it.place("a")
        outcome = it.start()
        await it.sent(it.a)
        it.a.die()
        await it.parked()
        it.place("b")
        await it.sent(it.b)
        assert (it.b.calls[0].attempt, it.b.calls[0].request_id) == (2, "id-1")
        it.b.die()
        assert reason(await outcome) is Reason.OUTCOME_UNKNOWN


async def test_a_call_that_may_not_run_twice_has_an_unknown_outcome() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        outcome = it.start(repeatable=False)
        await it.sent(it.a)
        it.a.break_streams()
        assert reason(await outcome) is Reason.OUTCOME_UNKNOWN


async def test_the_loss_of_one_worker_does_not_touch_the_calls_of_another() -> None:
    async with bed() as it:
        it.a.answer = it.b.answer = silence
        it.place("a", "b")
        lost = it.start(it.call(shard=0), repeatable=False)
        kept = it.start(it.call(shard=1), repeatable=False)
        await it.sent(it.a)
        await it.sent(it.b)
        it.a.say(b"\xff\xffgarbage")
        assert reason(await lost) is Reason.OUTCOME_UNKNOWN
        it.b.reply(it.b.ids[0], Replied(b"kept", Epoch(11)))
        assert await kept == Replied(b"kept", Epoch(11))


async def test_a_new_owner_ends_the_wait_for_the_old_one() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        repeated, unknown = it.start(), it.start(repeatable=False)
        await it.sent(it.a, 2)
        it.place("b")
        assert isinstance(await repeated, Replied)
        assert reason(await unknown) is Reason.OUTCOME_UNKNOWN
        assert len(it.b.calls) == 1


async def test_a_newer_table_with_the_same_owner_disturbs_nothing() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a", epoch=5)
        outcome = it.start(repeatable=False)
        await it.sent(it.a)
        it.place("a", epoch=5)
        it.a.reply(it.a.ids[0], Replied(b"", Epoch(5)))
        assert await outcome == Replied(b"", Epoch(5))


async def test_an_answer_from_an_older_epoch_is_not_the_callers() -> None:
    async with bed() as it:
        it.a.answer = lambda call: Replied(b"stale", Epoch(call.epoch - 1))
        it.place("a")
        assert reason(await it.start(repeatable=False)) is Reason.OUTCOME_UNKNOWN


async def test_a_fenced_call_waits_for_another_owner_before_it_is_repeated() -> None:
    async with bed() as it:
        it.a.answer = lambda _: Failed(10, "fenced", Reason.FENCED, started=True)
        it.place("a")
        outcome = it.start()
        await it.parked()
        assert len(it.a.calls) == 1
        it.place("b")
        assert isinstance(await outcome, Replied)
        assert it.b.calls[0].attempt == 2


async def test_a_worker_that_never_answers_costs_the_deadline_and_no_more() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        outcome = it.start()
        await it.sent(it.a)
        it.clock.advance(5.2)
        assert reason(await outcome) is Reason.DEADLINE
        await until("the worker is told", lambda: it.a.cancelled == it.a.ids, within=5)


async def test_who_waits_till_the_deadline_learns_that_the_shard_is_moving() -> None:
    async with bed() as it:
        it.place()
        outcome = it.start()
        await it.parked()
        it.clock.advance(4.95)  # a little before the caller's own timer ends the call
        assert reason(await outcome) is Reason.MOVING


async def test_who_waits_till_the_deadline_learns_that_there_are_no_workers() -> None:
    async with bed() as it:
        it.without_workers()
        outcome = it.start()
        await it.parked()
        it.clock.advance(5)
        assert reason(await outcome) is Reason.NO_WORKERS


async def test_what_may_have_run_is_never_said_not_to_have_run() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        changing, reading = it.start(), it.start(read_only=True)
        await it.sent(it.a, 2)
        it.a.die()
        await it.parked(2)
        it.clock.advance(5)
        assert reason(await changing) is Reason.OUTCOME_UNKNOWN
        assert reason(await reading) is Reason.MOVING


async def test_a_wait_that_is_known_to_be_in_vain_is_answered_at_once() -> None:
    async with bed(outlook=Later(7.5)) as it:
        it.place("a")
        it.silent("a")
        outcome = await it.start()
        assert isinstance(outcome, Failed)
        assert (outcome.reason, outcome.retry_after_s) == (Reason.MOVING, 7.5)
        assert isinstance(outcome.details, bytes)
        assert reason_of(outcome.details) is Reason.MOVING


@pytest.mark.parametrize("seconds", [None, 2.0])
async def test_a_wait_that_may_help_is_waited(seconds: float | None) -> None:
    async with bed(outlook=Later(seconds)) as it:
        it.place("a")
        it.silent("a")
        outcome = it.start()
        await it.parked()
        it.silent()
        assert isinstance(await outcome, Replied)


async def test_a_full_waiting_room_refuses_at_once() -> None:
    limits = RouterLimits(parking=ParkingLimits(calls=2))
    async with bed(limits=limits) as it:
        waiting = [it.start(), it.start()]
        await it.parked(2)
        assert reason(await it.start()) is Reason.OVERLOADED
        it.place("a")
        for task in waiting:
            assert isinstance(await task, Replied)


@pytest.mark.parametrize("limits", [LinkLimits(calls=2), LinkLimits(bytes=14)])
async def test_a_full_link_refuses_at_once(limits: LinkLimits) -> None:
    async with bed(limits=RouterLimits(link=limits)) as it:
        it.a.answer = silence
        it.place("a")
        open_calls = [it.start(), it.start()]
        await it.sent(it.a, 2)
        assert reason(await it.start()) is Reason.OVERLOADED
        for id_ in it.a.ids:
            it.a.reply(id_, Replied(b"", Epoch(11)))
        for task in open_calls:
            await task
        it.a.answer = lambda call: Replied(b"room again", call.epoch)
        assert isinstance(await it.start(), Replied)


async def test_a_caller_that_goes_away_is_told_to_the_worker() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        task = it.start()
        await it.sent(it.a)
        task.cancel()
        await until("the worker is told", lambda: it.a.cancelled == it.a.ids, within=5)


async def test_a_waiting_call_whose_caller_has_gone_is_never_sent() -> None:
    async with bed() as it:
        task = it.start()
        await it.parked()
        task.cancel()
        await it.parked(0)
        it.place("a")
        await it.start()
        assert len(it.a.calls) == 1


async def test_calls_without_a_deadline_wait_as_long_as_it_takes() -> None:
    async with bed() as it:
        outcome = it.start(it.call(timeout=None))
        await it.parked()
        it.clock.advance(1000)
        it.place("a")
        assert isinstance(await outcome, Replied)
        assert it.a.calls[0].deadline_ns is None


async def test_a_closing_router_ends_what_waits_and_what_is_under_way() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        under_way = it.start(repeatable=False)
        await it.sent(it.a)
        it.place("a", epoch=11, moving=True)
        waiting = it.start()
        await it.parked()
    assert reason(await waiting) is Reason.MOVING
    assert reason(await under_way) is Reason.OUTCOME_UNKNOWN


async def test_a_stream_gives_its_items_and_ends() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        stream = it.router.stream(it.call(timeout=None))
        assert it.tasks is not None
        reading = it.tasks.create_task(collect(stream))
        await it.sent(it.a)
        [id_] = it.a.ids
        for item in (b"1", b"2"):
            it.a.item(id_, item, Epoch(11))
        it.a.reply(id_, Failed(0, "", epoch=Epoch(11)))
        assert await reading == [b"1", b"2"]


async def collect(stream: AsyncIterator[bytes]) -> list[bytes]:
    return [item async for item in stream]


async def test_a_stream_ends_with_the_entitys_status() -> None:
    async with bed() as it:
        it.a.answer = lambda call: Failed(9, "closed", epoch=call.epoch)
        it.place("a")
        with pytest.raises(StatusError) as caught:
            await collect(it.router.stream(it.call()))
        assert (caught.value.code, caught.value.message) == (9, "closed")


async def test_a_slow_reader_holds_its_credit_and_gives_it_back_in_portions() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        async with contextlib.aclosing(it.router.stream(it.call(timeout=None))) as stream:
            assert it.tasks is not None
            reading = it.tasks.create_task(one(stream))
            await it.sent(it.a)
            [id_] = it.a.ids
            for n in range(STREAM_CREDIT):
                it.a.item(id_, b"%d" % n, Epoch(11))
            assert await reading == b"0"
            assert it.a.credits == []
            for _ in range(STREAM_CREDIT // 2 - 1):
                await anext(stream)
            await until("credit is given back", lambda: it.a.credits == [(id_, 8)], within=5)


async def test_more_items_than_credit_break_the_link() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        flight = it.router.open_stream(it.call(timeout=None))
        await it.sent(it.a)
        for _ in range(STREAM_CREDIT + 1):
            it.a.item(it.a.ids[0], b"", Epoch(11))
        await until("the stream has ended", lambda: flight.ended is not None, within=5)
        assert isinstance(flight.ended, Failed)
        assert flight.ended.reason is Reason.MOVING


async def test_a_stream_that_has_begun_ends_with_moving_when_its_shard_moves() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        flight = it.router.open_stream(it.call(timeout=None))
        await it.sent(it.a)
        it.a.item(it.a.ids[0], b"1", Epoch(11))
        await flight.first()
        it.place("b")
        with pytest.raises(StatusError) as caught:
            await collect(flight.items())
        assert reason_of(caught.value.details) is Reason.MOVING
        assert not it.b.calls


async def test_a_stream_that_has_not_begun_begins_again_elsewhere() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.b.answer = lambda call: Failed(0, "", epoch=call.epoch)
        it.place("a")
        flight = it.router.open_stream(it.call(timeout=None))
        await it.sent(it.a)
        it.place("b")
        assert await collect(flight.items()) == []
        assert len(it.b.calls) == 1


async def test_a_reader_that_goes_away_ends_the_stream_at_the_worker() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        async with contextlib.aclosing(it.router.stream(it.call(timeout=None))) as stream:
            assert it.tasks is not None
            reading = it.tasks.create_task(one(stream))
            await it.sent(it.a)
            it.a.item(it.a.ids[0], b"1", Epoch(11))
            assert await reading == b"1"
        await until("the worker is told", lambda: it.a.cancelled == it.a.ids, within=5)


async def one(stream: AsyncIterator[bytes]) -> bytes:
    return await anext(stream)


async def test_a_reader_that_takes_nothing_for_half_a_minute_is_ended() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        flight = it.router.open_stream(it.call(timeout=None))
        await it.sent(it.a)
        for _ in range(STREAM_CREDIT):
            it.a.item(it.a.ids[0], b"", Epoch(11))
        await flight.first()
        it.clock.advance(31)
        await until("the stream has ended", lambda: flight.ended is not None, within=5)
        assert isinstance(flight.ended, Failed)
        assert flight.ended.reason is Reason.OVERLOADED
        await until("the worker is told", lambda: it.a.cancelled == it.a.ids, within=5)


async def test_a_streams_deadline_ends_it() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        flight = it.router.open_stream(it.call(timeout=2))
        await it.sent(it.a)
        it.clock.advance(2.2)
        await until("the stream has ended", lambda: flight.ended is not None, within=5)
        assert isinstance(flight.ended, Failed)
        assert flight.ended.reason is Reason.DEADLINE


async def test_a_shard_that_moves_leaves_its_old_owner_whose_other_shards_stay() -> None:
    async with bed() as it:
        it.a.answer = it.b.answer = silence
        it.place("a", epoch=5)
        moved = it.start(it.call(shard=1), repeatable=False)
        kept = it.start(it.call(shard=0), repeatable=False)
        await it.sent(it.a, 2)
        it.place("a", "b", epochs=(5, 6))
        assert reason(await moved) is Reason.OUTCOME_UNKNOWN
        await until("the worker is told", lambda: it.a.cancelled == it.a.ids[:1], within=5)
        it.a.reply(it.a.ids[1], Replied(b"kept", Epoch(5)))
        assert await kept == Replied(b"kept", Epoch(5))


async def test_the_link_to_a_worker_that_owns_nothing_any_more_is_closed() -> None:
    async with bed() as it:
        it.place("a")
        await it.start()
        assert len(it.a.streams) == 1
        it.place("b")
        await until("it is closed", lambda: not it.a.streams, within=5)


async def test_an_item_from_an_older_epoch_ends_the_stream() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        flight = it.router.open_stream(it.call(timeout=None))
        await it.sent(it.a)
        it.a.item(it.a.ids[0], b"1", Epoch(11))
        it.a.item(it.a.ids[0], b"stale", Epoch(10))
        items = flight.items()
        assert await anext(items) == b"1"
        with pytest.raises(StatusError) as caught:
            await anext(items)
        assert reason_of(caught.value.details) is Reason.MOVING


async def test_a_lost_call_that_finds_no_room_to_wait_may_have_run() -> None:
    async with bed(limits=RouterLimits(parking=ParkingLimits(calls=1))) as it:
        it.a.answer = silence
        it.place("a")
        first, second = it.start(), it.start()
        await it.sent(it.a, 2)
        it.a.die()
        await it.parked()
        assert reason(await second) is Reason.OUTCOME_UNKNOWN
        it.place("b")
        assert isinstance(await first, Replied)


async def test_lost_calls_make_room_on_the_link() -> None:
    async with bed(limits=RouterLimits(link=LinkLimits(calls=1))) as it:
        it.a.answer = silence
        it.place("a")
        lost = it.start(repeatable=False)
        await it.sent(it.a)
        it.a.break_streams()
        await lost
        it.a.answer = echo
        assert isinstance(await it.start(), Replied)
