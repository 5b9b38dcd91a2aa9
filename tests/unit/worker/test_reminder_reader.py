"""How reminders come from the store, and how many are in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from seedbed.errors import CallError, Reason
from seedbed_worker.core.reminders import Listed
from seedbed_worker.entity_store import Ownership
from seedbed_worker.runtime import HostLimits
from tests.unit.worker.commits_world import Store
from tests.unit.worker.host_world import settle, world
from tests.unit.worker.reminders_world import RANG, Reminded, act, fresh, rows, take_away, wait_s


@pytest.fixture(autouse=True)
def _fresh() -> None:
    fresh()


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
