"""What a turn asks for of its reminders, and whether it counts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from probe.v1 import probe_pb2 as pb

from seedbed import Reminder, ServicerContext
from tests.unit.worker.commits_world import Store
from tests.unit.worker.host_world import GATES, refused, reply, settle, world
from tests.unit.worker.reminders_world import RANG, Reminded, act, fresh, rows, wait_s


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
