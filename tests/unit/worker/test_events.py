"""Entities that are made of events: what a turn keeps of them, and how they come back."""

from __future__ import annotations

import pytest
from probe.v1 import probe_pb2 as pb

from seedbed.errors import Reason
from seedbed_worker.journal.port import Kind
from tests.unit.worker.commits_world import Kept, does, fails
from tests.unit.worker.events_world import Basket, Watched
from tests.unit.worker.host_world import GATES, World, reason, refused, reply, world


class Fleeting(Basket, durable=False):
    """The same, without a store."""

    apply = Basket.apply


BOTH = pytest.mark.parametrize("cls", [Fleeting, Basket])


async def seen(w: World) -> tuple[str, int]:
    found = await w.read()
    return found.text, found.seq


@BOTH
async def test_an_event_is_applied_at_once_and_kept_at_the_end_of_the_turn(
    cls: type[Basket],
) -> None:
    async with world(cls, store=Watched()) as w:
        first = await does(w, "+bread +milk -bread")
        assert (first.text, first.seq) == ("milk|False", 0)
        assert await seen(w) == ("milk|True", 1), "one number for a turn"
        await does(w, "+tea")
        assert await seen(w) == ("milk tea|True", 2)


async def test_all_events_of_a_turn_are_one_record() -> None:
    store = Watched()
    async with world(Basket, store=store) as w:
        await does(w, "+bread -bread request")
        await does(w, "+milk")
    assert store.kinds() == [Kind.EVENTS, Kind.EVENTS]
    first, second = store.parts()
    assert [name for name, _ in first] == ["Added", "Removed", "probe.v1.Request"]
    assert [name for name, _ in second] == ["Added"]


async def test_an_event_is_kept_as_it_is_when_it_is_emitted() -> None:
    async with world(Basket, store=Watched()) as w:
        await does(w, "reuse passivate")
        assert (await seen(w))[0] == "first|True"


async def test_an_entity_comes_back_by_its_events_in_order() -> None:
    async with world(Basket, store=Watched()) as w:
        await does(w, "+bread +milk")
        await does(w, "-bread request")
        await does(w, "passivate")
        found = await w.read()
        assert (found.text, found.seq, found.total) == ("milk x y z|True", 2, 4)
        await does(w, "+tea")
        assert await seen(w) == ("milk x y z tea|True", 3)


@BOTH
async def test_a_failed_turn_keeps_none_of_its_events(cls: type[Basket]) -> None:
    store = Watched()
    async with world(cls, store=store) as w:
        await does(w, "+bread")
        assert await fails(w, "+milk fail") == "ZeroDivisionError"
        if cls is Fleeting:
            assert await seen(w) == ("bread milk|True", 1), "memory stays as the turn left it"
            return
        assert await seen(w) == ("bread|True", 1)
        await does(w, "+tea passivate")
        assert await seen(w) == ("bread tea|True", 2)


async def test_a_failed_turn_that_changed_nothing_reads_nothing() -> None:
    store = Watched()
    async with world(Basket, store=store) as w:
        await does(w, "+bread")
        await fails(w, "fail")
        assert store.loads == 1, "the one that brought it into memory"
        await fails(w, "touch fail")
        assert store.loads == 2
        await fails(w, "fail")
        assert store.loads == 2
        assert await seen(w) == ("bread|True", 1)


@BOTH
async def test_a_class_with_events_is_not_saved(cls: type[Basket]) -> None:
    async with world(cls, store=Watched()) as w:
        assert await fails(w, "+bread save") == "RuntimeError"


async def test_a_class_without_events_emits_none() -> None:
    class Emitting(Kept, durable=True):
        async def Write(self, request: pb.Request, context: object) -> pb.Reply:
            self.emit(pb.Request())  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # what the test is about
            return pb.Reply()

    async with world(Emitting) as w:
        assert refused(await w.run(w.call("Write"))).message == "RuntimeError"


async def test_a_read_only_turn_emits_nothing() -> None:
    async with world(Basket, store=Watched()) as w:
        assert refused(await w.run(w.call("ReadAct"))).message == "RuntimeError"
        assert await seen(w) == ("|False", 0)


@BOTH
async def test_what_is_no_event_of_the_class_is_refused(cls: type[Basket]) -> None:
    async with world(cls, store=Watched()) as w:
        await does(w, "+bread")
        assert await fails(w, "strange") == "StateError"
        assert (await seen(w))[1] == 1


@pytest.mark.parametrize("how", ["unstorable", "+milk spoil"])
async def test_a_turn_whose_event_or_state_cannot_be_stored_fails(how: str) -> None:
    async with world(Basket, store=Watched()) as w:
        await does(w, "+bread")
        assert await fails(w, how) == "StateError"
        assert await seen(w) == ("bread|True", 1)


async def test_a_turn_fails_whose_event_could_not_be_applied_though_it_went_on() -> None:
    store = Watched()
    async with world(Basket, store=store) as w:
        await does(w, "+bread")
        assert await fails(w, "hide +milk") == "ValueError"
        assert await seen(w) == ("bread|True", 1)
    assert store.kinds() == [Kind.EVENTS]


@BOTH
async def test_a_deletion_drops_events_and_the_later_of_both_counts(cls: type[Basket]) -> None:
    async with world(cls, store=Watched()) as w:
        await does(w, "+bread")
        await does(w, "+milk delete")
        assert await seen(w) == ("|False", 2)
        await does(w, "+tea")
        await does(w, "+milk delete +salt")
        assert await seen(w) == ("tea milk salt|True", 4)
        if cls is Basket:
            await does(w, "passivate")
            assert await seen(w) == ("tea milk salt|True", 4)
            await does(w, "delete")
            await does(w, "passivate")
            assert await seen(w) == ("|False", 5)


async def test_what_was_emitted_before_a_block_outside_is_kept_before_it() -> None:
    store = Watched()
    async with world(Basket, store=store) as w:
        call = w.start(w.call("Act", how="+bread outside +milk", gate="out"))
        await GATES.reach("out")
        assert await seen(w) == ("bread|True", 1)
        GATES.open("out")
        reply(await call.answer())
        assert await seen(w) == ("bread milk|True", 2)
    assert [len(parts) for parts in store.parts()] == [1, 1]


async def test_events_that_are_not_stored_leave_memory() -> None:
    store = Watched()
    async with world(Basket, store=store) as w:
        await does(w, "+bread")
        store.unreachable = 1
        answer = await w.run(w.call("Act", how="+milk"))
        assert reason(answer) is Reason.STORE_UNAVAILABLE
        assert await seen(w) == ("bread|True", 1)


# What apply() may do: the same as when the state is read.


class Greedy(Basket):
    """Does in `apply` what belongs into a turn."""

    def apply(self, event: object) -> None:
        match self.key:
            case "turn":
                self.state.names.append(str(self.turn.now))
            case "emit":
                self.emit(pb.Request())
            case "delete":
                self.delete()
            case _:
                self.state.names.append(f"{self.seq}{self.exists}")


@pytest.mark.parametrize("key", ["turn", "emit", "delete"])
async def test_no_turn_is_open_in_apply(key: str, caplog: pytest.LogCaptureFixture) -> None:
    async with world(Greedy, store=Watched()) as w:
        assert refused(await w.run(w.call("Act", key, how="+x"))).message == "RuntimeError"
        assert (await w.read(key)).text == "|False"
    assert "inside apply() there is no turn" in caplog.text


async def test_apply_finds_the_same_when_the_state_is_read() -> None:
    async with world(Greedy, store=Watched()) as w:
        await does(w, "+x +y")
        await does(w, "+z")
        before = await seen(w)
        assert before == ("0False 0False 1True|True", 2)
        await does(w, "passivate")
        assert await seen(w) == before
