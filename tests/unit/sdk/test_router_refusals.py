"""Calls that come back, or were refused: in which order they wait, and for which table."""

from __future__ import annotations

import pytest

from seedbed.calls import Failed, NotHere, Replied
from seedbed.errors import Reason
from seedbed.ids import Epoch, Generation, Incarnation
from seedbed.parking import ParkingLimits
from seedbed.router import RouterLimits
from seedbed.status import reason_of
from seedbed.transport import StatusError
from tests.unit.sdk.fake_network import FakeWorker, echo, silence
from tests.unit.sdk.router_bed import bed, collect, reason


def keys(worker: FakeWorker) -> list[str]:
    return [call.key for call in worker.calls]


async def test_calls_that_come_back_wait_before_younger_ones() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        calls = [it.start(it.call(key=f"k{n}"), repeatable=False) for n in range(3)]
        await it.sent(it.a, 3)
        it.place("a", epoch=11, moving=True)
        calls += [it.start(it.call(key=f"k{n}"), repeatable=False) for n in range(3, 5)]
        await it.parked(2)
        for id_ in it.a.ids:
            it.a.reply(id_, NotHere(Generation(12)))
        await it.parked(5)
        it.place("b")
        for call in calls:
            assert isinstance(await call, Replied)
        assert keys(it.b) == ["k0", "k1", "k2", "k3", "k4"]


async def test_lost_calls_wait_before_younger_ones() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        calls = [it.start(it.call(key=f"k{n}")) for n in range(2)]
        await it.sent(it.a, 2)
        it.silent("a")
        calls += [it.start(it.call(key="k2"))]
        await it.parked(1)
        it.place("b")
        for call in calls:
            assert isinstance(await call, Replied)
        assert keys(it.b) == ["k0", "k1", "k2"]


async def test_a_call_that_is_given_up_does_not_overtake_those_that_wait() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        calls = [it.start(it.call(key=f"k{n}")) for n in range(2)]
        await it.sent(it.a, 2)
        it.a.reply(it.a.ids[0], NotHere(Generation(12)))
        await it.parked()
        it.unreachable = frozenset({Incarnation("a-1")})
        it.place("b")
        for call in calls:
            assert isinstance(await call, Replied)
        assert keys(it.b) == ["k0", "k1"]


async def test_who_is_refused_makes_all_calls_of_the_shard_wait_for_the_table() -> None:
    async with bed() as it:
        refuse = NotHere(Generation(12))
        it.a.answer = lambda call: refuse if call.shard == 1 else Replied(b"", call.epoch)
        it.place("a")
        calls = [it.start(it.call(key="k0"), repeatable=False)]
        await it.parked()
        calls += [it.start(it.call(key="k1"), repeatable=False)]
        await it.parked(2)
        assert keys(it.a) == ["k0"], "nobody asks again who has just refused"
        assert isinstance(await it.start(it.call(shard=2)), Replied), "other shards go on"
        it.place("a", epoch=11, moving=True)
        await it.parked(2)
        it.place("b")
        for call in calls:
            assert isinstance(await call, Replied)
        assert keys(it.b) == ["k0", "k1"]


async def test_a_refusal_waits_for_the_table_that_it_names() -> None:
    async with bed() as it:
        it.a.answer = lambda _: NotHere(Generation(13))
        it.place("a")
        outcome = it.start()
        await it.parked()
        it.place("a", epoch=11)  # 12: about other shards
        await it.parked()
        assert len(it.a.calls) == 1
        it.place("a", epoch=11, moving=True)
        await it.parked()
        it.place("b")
        assert isinstance(await outcome, Replied)
        assert len(it.a.calls) == 1


@pytest.mark.parametrize("moving", [True, False])
async def test_a_refusal_by_a_table_that_is_here_already_costs_no_time(moving: bool) -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        outcome = it.start(repeatable=False)
        await it.sent(it.a)
        it.place("a", epoch=11, moving=True)
        if not moving:
            it.place("b")
        it.a.reply(it.a.ids[0], NotHere(Generation(12)))
        if moving:
            await it.parked()
            it.place("b")
        assert isinstance(await outcome, Replied)
        assert it.b.calls[0].attempt == 1


@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_call_that_a_timed_out_hand_off_fenced(repeatable: bool) -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        outcome = it.start(repeatable=repeatable)
        await it.sent(it.a)
        it.place("a", epoch=11, moving=True)
        it.a.reply(it.a.ids[0], Failed(10, "fenced", Reason.FENCED, started=True))
        if not repeatable:
            assert reason(await outcome) is Reason.OUTCOME_UNKNOWN
            return
        await it.parked()
        it.place("b")
        assert isinstance(await outcome, Replied)
        assert it.b.calls[0].attempt == 2


async def test_a_call_that_a_timed_out_hand_off_never_began_is_repeated() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        outcome = it.start(repeatable=False)
        await it.sent(it.a)
        it.place("b")
        it.a.reply(it.a.ids[0], Failed(14, "not mine", Reason.NOT_OWNER))
        assert isinstance(await outcome, Replied)
        assert it.b.calls[0].attempt == 1


async def test_one_shard_in_hand_off_does_not_fill_the_waiting_room() -> None:
    limits = RouterLimits(parking=ParkingLimits(calls_per_shard=2))
    async with bed(limits=limits) as it:
        it.place("a", moving=True)
        waiting = [it.start(), it.start()]
        await it.parked(2)
        refused = await it.start()
        assert isinstance(refused, Failed)
        assert refused.reason is Reason.OVERLOADED
        assert "2 calls of shard 1 of t" in refused.message
        assert "SEEDBED_PARKED_CALLS_PER_SHARD" in refused.message
        waiting.append(it.start(it.call(shard=2)))
        await it.parked(3)
        it.place("b")
        for task in waiting:
            assert isinstance(await task, Replied)


async def test_a_stream_ends_by_its_owners_word_and_opens_again_at_the_new_one() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        flight = it.router.open_stream(it.call(timeout=None))
        await it.sent(it.a)
        it.a.item(it.a.ids[0], b"1", Epoch(11))
        await flight.first()
        it.place("b")
        it.a.item(it.a.ids[0], b"2", Epoch(11))
        it.a.reply(it.a.ids[0], Failed(14, "moving", Reason.MOVING, started=True))
        items = flight.items()
        assert [await anext(items), await anext(items)] == [b"1", b"2"]
        with pytest.raises(StatusError) as caught:
            await anext(items)
        assert (caught.value.message, it.b.calls) == ("moving", [])
        it.b.answer = lambda call: Failed(0, "", epoch=call.epoch)
        assert await collect(it.router.stream(it.call(timeout=None))) == []
        assert len(it.b.calls) == 1


async def test_a_stream_whose_old_owner_says_nothing_ends_with_moving_after_a_second() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        flight = it.router.open_stream(it.call(timeout=None))
        await it.sent(it.a)
        it.a.item(it.a.ids[0], b"1", Epoch(11))
        await flight.first()
        it.place("b")
        assert flight.ended is None
        it.clock.advance(1.1)
        it.router.tick()
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
        it.a.reply(it.a.ids[0], NotHere(Generation(12)))
        await it.parked()
        it.place("b")
        assert await collect(flight.items()) == []
        assert len(it.b.calls) == 1


async def test_a_lost_link_lets_its_calls_wait_in_order_until_it_is_up_again() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        calls = [it.start(it.call(key=f"k{n}")) for n in range(2)]
        await it.sent(it.a, 2)
        it.a.die()
        await it.parked(2)
        calls.append(it.start(it.call(key="k2")))
        await it.parked(3)
        it.a.answer = echo
        it.a.listening = True
        for call in calls:
            assert isinstance(await call, Replied)
        assert keys(it.a)[2:] == ["k0", "k1", "k2"]
