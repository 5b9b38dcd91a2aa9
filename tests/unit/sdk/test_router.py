"""A router against scripted workers on a network in memory; the test moves the deadlines' clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from seedbed.calls import Failed, NotHere, Replied
from seedbed.errors import Reason
from seedbed.frames import STREAM_CREDIT
from seedbed.ids import Epoch
from seedbed.link import LinkLimits
from seedbed.parking import ParkingLimits
from seedbed.router import RouterLimits
from seedbed.status import reason_of
from seedbed.transport import StatusError
from tests.support.waiting import until
from tests.unit.sdk.fake_network import echo, silence
from tests.unit.sdk.router_bed import Later, bed, collect, reason


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


async def test_a_new_owner_ends_the_wait_for_one_that_is_lost() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        repeated, unknown = it.start(), it.start(repeatable=False)
        await it.sent(it.a, 2)
        it.silent("a")
        it.unreachable = frozenset()  # those that no table names are not told any more
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


async def test_so_it_is_only_when_the_owner_is_not_expected_back_any_more() -> None:
    outlook = Later(7.5)
    async with bed(outlook=outlook) as it:
        it.place("a")
        it.silent("a")
        outlook.back_s = 0.5
        back, lost = it.start(), it.start()
        await it.parked(2)
        it.silent()
        assert isinstance(await back, Replied)
        assert isinstance(await lost, Replied)
        it.silent("a")
        lost = it.start()
        await it.parked()
        it.clock.advance(0.6)
        outcome = await lost
        assert isinstance(outcome, Failed)
        assert (outcome.reason, outcome.retry_after_s) == (Reason.MOVING, 7.5)


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
