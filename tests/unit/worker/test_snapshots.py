"""Snapshots of entities that are made of events: when they are taken, and what they spare."""

from __future__ import annotations

from dataclasses import replace

import pytest

from seedbed.entity import AnyEntity
from seedbed.errors import Reason
from seedbed_worker import contents
from seedbed_worker.hosted import HostedClass
from seedbed_worker.journal.port import Kind
from seedbed_worker.loader import host_class
from tests.unit.worker import host_world
from tests.unit.worker.commits_world import Kept, does
from tests.unit.worker.events_world import Basket, Watched
from tests.unit.worker.host_world import GATES, reason, settle, world


@pytest.fixture(autouse=True)
def every_third(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe's contract says how often."""

    def hosted(cls: type[AnyEntity]) -> HostedClass:
        one = host_class(cls)
        return replace(one, contract=replace(one.contract, snapshot_every=3))

    monkeypatch.setattr(host_world, "host_class", hosted)


async def test_one_is_taken_after_every_so_many_changes() -> None:
    store = Watched()
    async with world(Basket, store=store) as w:
        taken: list[int | None] = []
        for number in range(7):
            await does(w, f"+{number}")
            snapshot = store.snapshot_of()
            taken.append(snapshot.seq if snapshot is not None else None)
        assert taken == [None, None, 3, 3, 3, 6, 6]


async def test_only_what_came_after_it_is_applied() -> None:
    async with world(Basket, store=Watched()) as w:
        for number in range(4):
            await does(w, f"+{number}")
        await does(w, "passivate")
        found = await w.read()
        assert (found.text, found.seq, found.total) == ("0 1 2 3|True", 4, 1)


async def test_one_is_not_taken_before_its_changes_are_kept() -> None:
    store = Watched()
    async with world(Basket, store=store) as w:
        await does(w, "+0")
        await does(w, "+1")
        store.gate = "commit"
        third = w.start(w.call("Act", how="+2"))
        await GATES.reach("commit")
        assert store.snapshot_of() is None
        store.unreachable = 1
        GATES.open("commit")
        assert reason(await third.answer()) is Reason.STORE_UNAVAILABLE
        await settle()
        assert store.snapshot_of() is None
        store.gate = ""
        await does(w, "+2")
        assert store.snapshot_of() is not None


async def test_a_deletion_is_no_snapshot_and_ends_one() -> None:
    store = Watched()
    async with world(Basket, store=store) as w:
        await does(w, "+0")
        await does(w, "+1")
        await does(w, "delete")
        assert store.snapshot_of() is None
        for number in range(3):
            await does(w, f"+{number}")
        assert store.kinds()[2] is Kind.DELETED
        await does(w, "delete")
        await does(w, "passivate")
        found = await w.read()
        assert (found.text, found.seq) == ("|False", 7)


async def test_of_a_state_that_is_saved_one_is_taken_for_the_sake_of_the_states_before_it() -> None:
    store = Watched()
    async with world(Kept, store=store) as w:
        for _ in range(7):
            await w.write()
        snapshot = store.snapshot_of()
        assert snapshot is not None
        assert (snapshot.seq, snapshot.of_events) == (6, False)
        await does(w, "passivate")
        assert (await w.read()).total == 7, "the newest record counts"


async def test_a_class_that_does_not_say_has_one_after_every_hundred(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_world, "host_class", host_class)
    assert contents.SNAPSHOT_EVERY == 100
    store = Watched()
    async with world(Basket, store=store) as w:
        for _ in range(99):
            await w.write()
        assert store.snapshot_of() is None
        await w.write()
        assert store.snapshot_of() is not None
