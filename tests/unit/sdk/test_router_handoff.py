"""While a shard changes hands: what waits, whose answers count, and which Links stay."""

from __future__ import annotations

from seedbed.calls import Failed, Replied
from seedbed.errors import Reason
from seedbed.ids import Epoch
from tests.support.waiting import until
from tests.unit.sdk.fake_network import silence
from tests.unit.sdk.router_bed import bed, reason


async def test_a_shard_in_hand_off_lets_its_calls_wait() -> None:
    async with bed() as it:
        it.place("a", moving=True)
        outcome = it.start()
        await it.parked()
        it.place("b")
        assert isinstance(await outcome, Replied)
        assert not it.a.calls


async def test_the_answer_of_an_owner_that_has_handed_off_is_the_callers() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        outcome = it.start(repeatable=False)
        await it.sent(it.a)
        it.place("a", epoch=11, moving=True)
        it.place("b")
        it.clock.advance(0.9)
        it.router.tick()
        it.a.reply(it.a.ids[0], Replied(b"the last", Epoch(11)))
        assert await outcome == Replied(b"the last", Epoch(11))
        assert not it.b.calls


async def test_an_owner_that_has_handed_off_and_says_nothing_is_given_up_after_a_second() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        unknown, repeated = it.start(repeatable=False), it.start()
        await it.sent(it.a, 2)
        it.place("b")
        it.clock.advance(0.7)
        it.place("b", epoch=12)  # another table gives no more time
        it.clock.advance(0.35)
        it.router.tick()
        assert reason(await unknown) is Reason.OUTCOME_UNKNOWN
        assert isinstance(await repeated, Replied)
        assert [call.attempt for call in it.b.calls] == [2]


async def test_every_attempt_is_waited_for_anew() -> None:
    async with bed() as it:
        it.a.answer = it.b.answer = silence
        it.place("a")
        outcome = it.start()
        await it.sent(it.a)
        it.place("b")
        it.a.reply(it.a.ids[0], Failed(10, "fenced", Reason.FENCED, started=True))
        await it.sent(it.b)
        it.clock.advance(1.1)
        it.router.tick()
        it.place("a")
        assert not outcome.done()
        it.clock.advance(1.1)
        it.router.tick()
        assert reason(await outcome) is Reason.OUTCOME_UNKNOWN


async def test_the_deadline_of_a_call_that_waits_for_an_old_owner_stays() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        outcome = it.start(it.call(timeout=0.5), repeatable=False)
        await it.sent(it.a)
        it.place("b")
        it.clock.advance(0.65)
        it.router.tick()
        assert reason(await outcome) is Reason.DEADLINE


async def test_an_old_owner_that_is_lost_while_its_answer_is_waited_for_is_given_up() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a", epoch=5)
        outcome = it.start(it.call(shard=1))
        await it.sent(it.a)
        it.place("a", "b", epochs=(5, 6))
        it.silent("a")
        assert isinstance(await outcome, Replied)
        assert len(it.b.calls) == 1


async def test_what_has_not_left_yet_goes_to_the_new_owner_at_once() -> None:
    async with bed() as it:
        it.place("a")
        flight = it.router.submit(it.call(), repeatable=False, read_only=False)
        it.place("b")
        assert isinstance(await flight.future, Replied)
        assert not it.a.calls


async def test_a_shard_that_moves_leaves_its_old_owner_whose_other_shards_stay() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a", epoch=5)
        moved = it.start(it.call(shard=1), repeatable=False)
        kept = it.start(it.call(shard=0), repeatable=False)
        await it.sent(it.a, 2)
        it.place("a", "b", epochs=(5, 6))
        it.clock.advance(1.1)
        it.router.tick()
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
        assert it.links() == 0


async def test_a_link_that_is_to_close_carries_what_it_has_to_the_end() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        outcomes = [it.start(repeatable=False) for _ in range(2)]
        await it.sent(it.a, 2)
        it.place("b")
        it.a.reply(it.a.ids[0], Replied(b"", Epoch(11)))
        assert isinstance(await outcomes[0], Replied)
        assert len(it.a.streams) == 1
        it.a.reply(it.a.ids[1], Replied(b"", Epoch(11)))
        assert isinstance(await outcomes[1], Replied)
        await until("it is closed", lambda: not it.a.streams, within=5)
        assert it.links() == 0


async def test_a_link_that_is_to_close_does_not_linger() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        flight = it.router.open_stream(it.call(timeout=None))
        await it.sent(it.a)
        it.forget_all()  # a store without tables: no epoch says that the shard has moved
        assert it.links() == 1
        it.clock.advance(1.1)
        it.router.tick()
        await until("it is closed", lambda: not it.a.streams, within=5)
        assert it.links() == 0
        assert flight.ended is None
        assert it.router.parked == 1


async def test_a_worker_that_gets_shards_again_gets_a_link_again() -> None:
    async with bed() as it:
        it.a.answer = silence
        it.place("a")
        old = it.start(repeatable=False)
        await it.sent(it.a)
        it.place("b")
        it.place("a")
        new = it.start(repeatable=False)
        await it.sent(it.a, 2)
        it.a.reply(it.a.ids[0], Replied(b"old", Epoch(11)))
        it.a.reply(it.a.ids[1], Replied(b"new", Epoch(13)))
        assert [await old, await new] == [Replied(b"old", Epoch(11)), Replied(b"new", Epoch(13))]
        await until("one Link is left", lambda: len(it.a.streams) == 1, within=5)
