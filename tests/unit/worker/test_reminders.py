"""Reminders: what a turn asks for, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from probe.v1 import probe_pb2 as pb

from seedbed import Reminder, ServicerContext
from seedbed.errors import CallError, Reason
from seedbed.ids import Generation, Incarnation
from seedbed.routing import Handoff
from seedbed_worker.core.reminders import Listed
from seedbed_worker.entity_store import Ownership
from seedbed_worker.runtime import HostLimits
from tests.unit.worker.commits_world import Store
from tests.unit.worker.host_world import GATES, SHARDS, World, refused, reply, settle, world
from tests.unit.worker.reminders_world import (
    FAILING,
    GATED,
    IDS,
    RANG,
    Fleeting,
    Reminded,
    act,
    fresh,
    rows,
    take_away,
    wait_s,
)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    fresh()


async def test_it_calls_the_method_once_when_it_is_due() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        await act(w, "ring 2")
        assert await rows(store) == [("a", "", 1)]
        await wait_s(w, 1.9)
        assert RANG == []
        await wait_s(w, 0.2)
        assert RANG == ["a 1"]
        assert await rows(store) == []
        await wait_s(w, 10)
        assert RANG == ["a 1"]
        assert (await w.read()).total == 1


async def test_to_ask_for_it_is_a_change() -> None:
    async with world(Reminded, store=Store()) as w:
        told = await act(w, "ring 100")
        assert (told.seq, told.text) == (0, "False")
        found = await w.read()
        assert (found.seq, found.text) == (1, "True")
        await act(w, "forget")
        assert (await w.read()).seq == 2


async def test_at_once_means_after_this_turn_is_durable() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        store.gate = "commit"
        asked = w.start(w.call("Act", "a", how="ring 0"))
        await GATES.reach("commit")
        await settle()
        assert RANG == []
        GATES.open("commit")
        await asked.answer()
        await settle()
        assert RANG == ["a 1"]


@pytest.mark.parametrize("how", ["fail", "store"])
async def test_of_a_turn_that_fails_nothing_is_asked_for(how: str) -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        await act(w, "save")
        if how == "store":
            store.unreachable = 1
        refused(await w.run(w.call("Act", "a", how="ring 1, fail" if how == "fail" else "ring 1")))
        await wait_s(w, 3)
        assert (RANG, await rows(store)) == ([], [])


async def test_asked_for_again_it_is_replaced_and_names_tell_them_apart() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        await act(w, "ring 1, ring 2 x")
        await act(w, "ring 3")
        await wait_s(w, 2.5)
        assert RANG == ["ax 1"]
        await wait_s(w, 1)
        assert RANG == ["ax 1", "a 1"]


async def test_forgotten_it_does_not_come() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        await act(w, "ring 1, ring 1 x")
        await act(w, "forget")
        assert await rows(store) == [("a", "x", 1)]
        await wait_s(w, 2)
        assert RANG == ["ax 1"]


async def test_what_is_taken_back_by_a_turn_before_it_in_line_does_not_come() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        await act(w, "ring 1")
        before = w.start(w.call("Act", "a", how="wait, forget", deadline_s=60.0))
        await GATES.reach("act")
        await wait_s(w, 2)
        store.gate = "commit"
        GATES.open("act")
        await GATES.reach("commit")
        await wait_s(w, 1)
        assert RANG == [], "the turn before it is not even stored"
        GATES.open("commit")
        await before.answer()
        await wait_s(w, 1)
        assert RANG == []


async def test_it_comes_if_the_turn_that_took_it_back_was_not_stored() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        await act(w, "ring 1")
        store.gate, store.unreachable = "commit", 1
        before = w.start(w.call("Act", "a", how="forget"))
        await GATES.reach("commit")
        await wait_s(w, 2)
        assert RANG == []
        store.gate = ""
        GATES.open("commit")
        refused(await before.answer())
        await wait_s(w, 1)
        assert RANG == ["a 1"]


async def test_a_deletion_drops_all_and_what_is_asked_for_after_it_stays() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        await act(w, "ring 1, ring 1 x, ring 1 y")
        await act(w, "ring 1 z, delete, ring 2 x")
        assert await rows(store) == [("a", "x", 1)]
        await wait_s(w, 3)
        assert RANG == ["ax 1"]


async def test_a_repeating_one_comes_again_and_again() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        await act(w, "tick 2")
        await wait_s(w, 6.5)
        assert RANG == ["a 1", "a 2", "a 3"]
        await act(w, "forget")
        await wait_s(w, 5)
        assert (len(RANG), await rows(store)) == (3, [])


async def test_what_was_missed_is_caught_up_once_with_its_count() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        await act(w, "tick 2")
        await act(w, "ring 3", key="b")
        await take_away(w, 9)
        await settle()
        assert RANG == ["a 4", "b 1"]
        await wait_s(w, 2)
        assert RANG == ["a 4", "b 1", "a 5"]


async def test_one_that_failed_comes_again_under_the_same_id_until_it_succeeds() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        FAILING.add("x")
        await act(w, "ring 1 x")
        await wait_s(w, 1.1)
        assert len(RANG) == 1
        await wait_s(w, 1)
        assert len(RANG) == 2
        await wait_s(w, 2)
        assert len(RANG) == 3
        assert w.host.reminders.agenda.failing("probe") == 1
        assert await rows(store) == [("a", "x", 1)]
        FAILING.clear()
        await wait_s(w, 4)
        assert len(RANG) == 4
        assert len(set(IDS)) == 1
        assert w.host.reminders.agenda.failing("probe") == 0
        assert (await w.read()).total == 1, "what failed has changed nothing"
        assert await rows(store) == []


async def test_each_of_its_times_has_an_id_of_its_own() -> None:
    async with world(Reminded, store=Store()) as w:
        await act(w, "tick 1")
        await act(w, "ring 1 x")
        await act(w, "tick 1", key="b")
        await wait_s(w, 2.1)
        assert len(set(IDS)) == len(IDS) == 5


async def test_one_that_was_not_stored_comes_again_and_one_that_was_does_not() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        await act(w, "ring 1, ring 1 x")
        store.unreachable = 1
        await wait_s(w, 1.1)
        await wait_s(w, 2)
        assert sorted(RANG) in (["a 1", "a 1", "ax 1"], ["a 1", "ax 1", "ax 1"])
        assert (await w.read()).total == 2
        assert await rows(store) == []


async def test_a_turn_whose_record_is_there_is_not_run_again_by_the_next_owner() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        await act(w, "ring 1")
        store.lost_answer = True  # it is stored, and nobody hears of it
        await wait_s(w, 1.1)
        assert RANG == ["a 1"]
        await take_away(w)
        await wait_s(w, 5)
        assert RANG == ["a 1"]
        assert (await w.read()).total == 1


async def test_it_may_ask_for_itself_anew() -> None:
    async with world(Reminded, store=Store()) as w:
        await act(w, "ring 1 anew")
        await wait_s(w, 8)
        assert RANG == ["aanew 1"] * 3


async def test_outside_works_in_it_and_a_repeat_begins_at_the_top() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        await act(w, "ring 1 outside")
        await wait_s(w, 1.1)
        assert RANG == ["aoutside 1", "outside"]
        assert (await w.read()).total == 1, "what the turn gave before the block is kept"
        await take_away(w)
        await settle()
        assert RANG == ["aoutside 1", "outside"] * 2
        GATES.open("outside")
        await settle()
        assert (await w.read()).total == 102
        assert len(set(IDS)) == 1
        assert await rows(store) == []


async def test_forgotten_while_it_is_outside_it_ends_and_does_not_come_again() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        await act(w, "ring 1 outside")
        await wait_s(w, 1.1)
        await act(w, "forget outside")
        GATES.open("outside")
        await wait_s(w, 5)
        assert RANG == ["aoutside 1", "outside"]
        assert (await w.read()).total == 101


async def test_a_slow_one_delays_no_other_entity_and_holds_its_own() -> None:
    store = Store()
    async with world(Reminded, store=store, limits=HostLimits(reminders_at_once=2)) as w:
        GATED.add("slow")
        await act(w, "ring 1 slow, ring 1 x, ring 1 y")
        for key in "bcd":
            await act(w, "ring 1", key=key)
        await wait_s(w, 1.2)
        assert [one for one in RANG if one[0] != "a"] == ["b 1", "c 1", "d 1"]
        assert [one for one in RANG if one[0] == "a"] == ["aslow 1"]
        GATES.open("slow")
        await wait_s(w, 0.2)
        assert sorted(one for one in RANG if one[0] == "a") == ["aslow 1", "ax 1", "ay 1"]


async def test_one_that_takes_too_long_is_cancelled_and_comes_again() -> None:
    limits = HostLimits(reminder_timeout_s=5)
    async with world(Reminded, store=Store(), limits=limits) as w:
        GATED.add("slow")
        await act(w, "ring 1 slow")
        await wait_s(w, 5.9)
        assert RANG == ["aslow 1"]
        GATED.clear()
        await wait_s(w, 1.5)
        assert RANG == ["aslow 1"] * 2
        assert (await w.read()).total == 1


async def test_a_shard_on_its_way_out_fires_nothing_and_what_runs_ends() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        GATED.add("slow")
        await act(w, "ring 1 slow, ring 2")
        await wait_s(w, 1.1)
        hand_off(w)
        await wait_s(w, 3)
        assert RANG == ["aslow 1"]
        GATES.open("slow")
        await settle()
        assert await rows(store) == [("a", "", 1)], "the slow one is done"
        assert not w.region.owned("probe", 0)


def hand_off(w: World) -> None:
    """Every shard is on its way to another worker."""
    w.generation += 1
    now = w.region.view.tables["probe", 0]
    handoffs = {shard: Handoff(Incarnation("other"), 10_000) for shard in range(SHARDS)}
    generation = Generation(w.generation)
    w.region.observe([replace(now, generation=generation, handoffs=handoffs)], w.clock.now_ns())
    w.host.region_changed()


async def test_in_memory_it_is_no_change_and_is_lost_in_a_move() -> None:
    store = Store()
    async with world(Reminded, store=store) as w:
        assert (await act(w, "memory 1")).seq == 0
        assert ((await w.read()).seq, await rows(store)) == (0, [])
        await wait_s(w, 1.1)
        assert RANG == ["a 1"]
        await act(w, "memory 1")
        await take_away(w)
        await wait_s(w, 3)
        assert RANG == ["a 1"]


async def test_in_memory_it_keeps_its_entity_from_idling_out() -> None:
    async with world(Fleeting, limits=HostLimits(idle_timeout_s=1)) as w:
        await act(w, "ring 30, save", key="kept")
        await act(w, "save", key="idle")
        await wait_s(w, 5)
        assert list(w.host.homes["probe"].entities) == ["kept"]
        await act(w, "tick 2", key="kept")
        await wait_s(w, 4.2)
        assert RANG == ["kept 1", "kept 2"]
        assert (await w.read("kept")).total == 3
        await act(w, "forget", key="kept")
        await wait_s(w, 3)
        assert not w.host.homes["probe"].entities


async def test_a_stored_one_wakes_its_entity() -> None:
    async with world(Reminded, store=Store(), limits=HostLimits(idle_timeout_s=1)) as w:
        await act(w, "ring 20, save")
        await wait_s(w, 5)
        assert not w.host.homes["probe"].entities
        await wait_s(w, 15.2)
        assert RANG == ["a 1"]
        assert (await w.read()).total == 2


async def test_turns_that_only_read_and_no_turn_at_all_ask_for_nothing() -> None:
    made: list[Reminded] = []

    class Reads(Reminded, durable=True):
        async def ReadAct(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
            made.append(self)
            ask = self.remind if request.how == "remind" else self.forget
            with pytest.raises(RuntimeError, match=rf"^{request.how}\(\) in a read-only turn"):
                ask(self.ring)
            return pb.Reply()

    async with world(Reads, store=Store()) as w:
        for how in ("remind", "forget"):
            reply(await w.run(w.call("ReadAct", how=how)))
    with pytest.raises(RuntimeError, match="no turn runs in this task"):
        made[0].remind(made[0].ring)


WRONG: dict[str, tuple[type[Exception], str, Callable[[Reminded, Reminded], None]]] = {
    "another entity's": (RuntimeError, "this very entity", lambda me, you: me.remind(you.ring)),
    "no method": (RuntimeError, "self.expire", lambda me, you: me.remind(nobody)),
    "a lambda": (RuntimeError, "self.expire", lambda me, you: me.forget(lambda r: me.ring(r))),
    "too early": (ValueError, "past", lambda me, you: me.remind(me.ring, after=-timedelta(1))),
    "all the time": (ValueError, "every", lambda me, you: me.remind(me.ring, every=timedelta())),
    "never": (ValueError, "calendar", lambda me, you: me.remind(me.ring, after=timedelta.max)),
    "a strange name": (ValueError, "name", lambda me, you: me.remind(me.ring, name="a\0")),
}


async def nobody(reminder: Reminder) -> None:
    """A function of no entity."""


@pytest.mark.parametrize("what", WRONG)
async def test_what_cannot_be_meant_is_refused_with_what_to_do(what: str) -> None:
    kind, text, ask = WRONG[what]
    caught: list[Exception] = []

    class Wrong(Reminded, durable=True):
        async def Act(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
            with pytest.raises(kind, match=text) as raised:
                ask(self, type(self)())
            caught.append(raised.value)
            return self.answer()

    store = Store()
    async with world(Wrong, store=store) as w:
        await act(w, "")
        assert caught
        assert (await w.read()).seq == 0


async def test_of_a_method_that_is_gone_the_reminder_stays() -> None:
    class Newer(Reminded, durable=True):
        async def chime(self, reminder: Reminder) -> None:
            RANG.append("chime")

        async def Act(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
            self.remind(self.chime)
            return self.answer()

    store = Store()
    async with world(Newer, store=store) as w:
        store.gate = "commit"
        asked = w.start(w.call("Act", how=""))
        await GATES.reach("commit")
        del Newer.chime
        GATES.open("commit")
        await asked.answer()
        store.gate = ""
        await wait_s(w, 0.5)
        assert w.host.reminders.agenda.failing("probe") == 1
        Newer.chime = Reminded.ring  # type: ignore[method-assign] # it comes back
        await wait_s(w, 2)
        assert RANG == ["a 1"]


# Bringing them from the store.


async def test_only_what_is_due_soon_is_in_memory() -> None:
    limits = HostLimits(reminder_window_s=10)
    store = Store()
    async with world(Reminded, store=store, limits=limits) as w:
        await act(w, "ring 5, ring 14 x, ring 31 y")
        assert w.host.reminders.agenda.stored == 1
        await wait_s(w, 5.2)
        assert (RANG, w.host.reminders.agenda.stored) == (["a 1"], 1)
        await wait_s(w, 27)
        assert RANG == ["a 1", "ax 1", "ay 1"]


async def test_more_than_there_is_room_for_comes_when_there_is_room() -> None:
    limits = HostLimits(reminders_in_memory=5, reminders_at_once=2)
    store = Store()
    async with world(Reminded, store=store, limits=limits) as w:
        for n in range(20):
            await act(w, f"ring 1, ring {1 + n / 100} x", key=f"k{n}")
            assert w.host.reminders.agenda.stored <= 5
        await wait_s(w, 1)
        for _ in range(30):
            await wait_s(w, 0.1)
            assert w.host.reminders.agenda.stored <= 5
        assert len(RANG) == len(set(RANG)) == 40
        assert await rows(store) == []


async def test_many_shards_without_reminders_are_asked_for_at_once() -> None:
    class Counting(Store):
        questions = takes = 0

        async def reminders(
            self,
            type_: str,
            shards: Collection[int],
            until_ms: int,
            after: Listed | None,
            limit: int,
        ) -> Sequence[Listed]:
            self.questions += 1
            return await super().reminders(type_, shards, until_ms, after, limit)

        async def take(self, type_: str, shard: Ownership) -> None:
            self.takes += 1
            await super().take(type_, shard)

    store = Counting()
    async with world(Reminded, store=store) as w:
        await settle()
        assert (store.questions, store.takes) == (1, 0)
        await act(w, "ring 90")
        await wait_s(w, 35)
        assert (store.questions, store.takes) == (3, 1)


async def test_a_store_that_does_not_answer_is_asked_again() -> None:
    class Away(Store):
        away = True

        async def reminders(
            self,
            type_: str,
            shards: Collection[int],
            until_ms: int,
            after: Listed | None,
            limit: int,
        ) -> Sequence[Listed]:
            if self.away:
                raise CallError(Reason.STORE_UNAVAILABLE, "no answer")
            return await super().reminders(type_, shards, until_ms, after, limit)

    store = Away()
    async with world(Reminded, store=store) as w:
        await act(w, "ring 5")
        await take_away(w)
        await wait_s(w, 6)
        assert RANG == []
        store.away = False
        await wait_s(w, 1.2)
        assert RANG == ["a 1"]
