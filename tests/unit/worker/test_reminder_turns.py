"""What comes of reminders: their turns, again and again, here or with another owner."""

from __future__ import annotations

from dataclasses import replace

import pytest

from seedbed.ids import Generation, Incarnation
from seedbed.routing import Handoff
from seedbed_worker.runtime import HostLimits
from tests.unit.worker.commits_world import Store
from tests.unit.worker.host_world import GATES, SHARDS, World, settle, world
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
        assert w.host.reminders.agenda.stored == 2
        hand_off(w)
        assert w.host.reminders.agenda.stored == 1, "what runs, and nothing else"
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
