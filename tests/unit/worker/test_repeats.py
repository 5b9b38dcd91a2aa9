"""A call that is made again has its effect once, and gets the first outcome."""

from __future__ import annotations

from dataclasses import replace

import grpc
import pytest
from probe.v1 import probe_pb2 as pb

from seedbed import ServicerContext
from seedbed.calls import EntityCall, Replied
from seedbed.errors import Reason
from seedbed.request_ids import DerivedIds, RequestIds
from seedbed_worker.repeats import MADE_MS
from seedbed_worker.runtime import HostLimits
from tests.unit.worker.commits_world import Kept, Store, Volatile
from tests.unit.worker.host_world import GATES, World, reason, refused, reply, settle, world

WINDOW_S = 100.0
LIMITS = HostLimits(repeat_window_s=WINDOW_S)


class Booth(Kept, durable=True):
    """Counts wrong passwords, by a status that is an outcome."""

    async def Act(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        if request.how != "wrong password":
            return await super().Act(request, context)
        self.state.value += 1
        self.save()
        context.set_code(grpc.StatusCode.PERMISSION_DENIED)
        context.set_details("wrong password")
        context.set_trailing_metadata((("tries", str(self.state.value)), ("raw-bin", b"\x00")))
        return pb.Reply()


def named(w: World, name: str = "mine", *, amount: int = 1, method: str = "Write") -> EntityCall:
    """A call under a name that its caller gave."""
    call = w.call(method, amount=amount, request_id=name)
    call.metadata = (("idempotency-key", name),)
    return call


def minted(w: World, *, amount: int = 1, attempt: int = 2) -> EntityCall:
    """A call under an id of an edge; not the first attempt."""
    call = w.call("Write", amount=amount, request_id=RequestIds(w.clock).mint())
    call.attempt = attempt
    return call


def later(w: World, seconds: float) -> None:
    """Time passes, and the lease is renewed meanwhile."""
    for _ in range(int(seconds)):
        w.clock.advance(1)
        w.renew()


def leave_memory(w: World) -> None:
    home = w.host.homes["probe"]
    home.retire(home.entities["a"])
    assert w.host.rt.live == 0


async def test_a_repeat_gets_the_first_outcome_and_changes_nothing() -> None:
    async with world(Kept, store=Store()) as w:
        first = await w.run(named(w, amount=1))
        await w.write(amount=10)
        assert await w.run(named(w, amount=1)) == first
        assert (await w.read()).total == 11


async def test_so_it_does_after_a_move_and_with_nothing_in_memory() -> None:
    async with world(Kept, store=Store()) as w:
        first = await w.run(named(w))
        w.place("other")
        w.host.region_changed()
        w.place("me")
        w.host.region_changed()
        again = await w.run(named(w))
        assert isinstance(again, Replied)
        assert isinstance(first, Replied)
        assert again.response == first.response
        assert again.epoch > first.epoch, "the present owner says so"
        assert (await w.read()).total == 1


async def test_a_status_with_a_normal_return_is_an_outcome_too() -> None:
    async with world(Booth, store=Store()) as w:
        call = w.call("Act", how="wrong password", request_id="mine")
        first = refused(await w.run(replace(call)))
        leave_memory(w)
        again = refused(await w.run(replace(call)))
        assert again == first
        assert again.trailing == (("tries", "1"), ("raw-bin", b"\x00"))
        assert (await w.read()).total == 1


async def test_a_turn_that_kept_nothing_runs_again() -> None:
    async with world(Kept, store=Store()) as w:
        for how in ("abort", "change and fail"):
            call = w.call("Act", how=how, request_id=how)
            await w.run(replace(call))
            call.request = w.call("Act", how="save, then change", amount=1).request
            reply(await w.run(call))
        assert (await w.read()).total == 2


async def test_a_volatile_class_remembers_nothing() -> None:
    async with world(Volatile) as w:
        await w.run(named(w))
        await w.run(named(w))
        assert (await w.read()).total == 2


async def test_a_repeat_waits_for_the_first_that_runs_or_is_being_stored() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        before = w.start(w.call("Write", amount=10, gate="before"))
        await GATES.reach("before")
        waiting, second = w.start(named(w)), w.start(named(w))
        await settle()
        store.gate = "commit"
        GATES.open("before")
        await GATES.reach("commit")
        await GATES.reach("commit")
        third = w.start(named(w))
        await settle()
        assert not any(call.done for call in (waiting, second, third))
        GATES.open("commit")
        answers = [await call.answer() for call in (waiting, second, third)]
        assert answers[0] == answers[1] == answers[2]
        assert reply(await before.answer()).total == 10
        assert (await w.read()).total == 11
        await settle()
        assert (w.host.rt.calls, w.host.homes["probe"].cells) == (0, {})


async def test_a_repeat_that_waits_does_not_keep_the_entity_busy() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        store.gate = "commit"
        first = w.start(named(w))
        await GATES.reach("commit")
        second = w.start(named(w))
        await settle()
        assert not w.host.homes["probe"].cells, "the turn is over, and nobody stands in line"
        GATES.open("commit")
        assert await first.answer() == await second.answer()


async def test_a_repeat_of_one_that_was_not_stored_runs() -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        await w.read()
        store.gate, store.unreachable = "commit", 1
        first = w.start(named(w))
        await GATES.reach("commit")
        second = w.start(named(w))
        await settle()
        store.gate = ""
        GATES.open("commit")
        assert reason(await first.answer()) is Reason.STORE_UNAVAILABLE
        assert reply(await second.answer()).total == 1


async def test_a_repeat_of_one_whose_caller_has_gone_before_it_began_runs() -> None:
    async with world(Kept, store=Store()) as w:
        before = w.start(w.call("Write", amount=10, gate="before"))
        await GATES.reach("before")
        first, second = w.start(named(w)), w.start(named(w))
        assert first.job is not None
        first.job.abandon()
        GATES.open("before")
        assert reply(await second.answer()).total == 11
        await before.answer()


async def test_a_repeat_s_own_deadline_ends_its_wait() -> None:
    async with world(Kept, store=Store()) as w:
        first = w.start(replace(named(w), request=w.call("Write", amount=1, gate="g").request))
        await GATES.reach("g")
        late = named(w)
        late.deadline_ns = w.clock.now + 10**9
        second = w.start(late)
        w.clock.advance(1.1)
        w.host.tick()
        assert reason(await second.answer()) is Reason.DEADLINE
        GATES.open("g")
        assert reply(await first.answer()).total == 1
        assert w.host.rt.calls == 0


async def test_a_name_is_for_one_method() -> None:
    async with world(Kept, store=Store()) as w:
        await w.run(named(w))
        answer = refused(await w.run(named(w, method="Act")))
        assert (answer.reason, answer.started) == (Reason.REQUEST_ID_REUSED, False)


async def test_of_a_caller_s_name_the_bytes_are_not_compared_and_of_ours_they_are() -> None:
    async with world(Kept, store=Store()) as w:
        reply(await w.run(named(w, amount=1)))
        reply(await w.run(named(w, amount=2)))
        call = minted(w)
        reply(await w.run(replace(call)))
        call.request = w.call("Write", amount=2).request
        assert refused(await w.run(call)).reason is Reason.REQUEST_ID_REUSED
        assert (await w.read()).total == 2


async def test_a_name_is_a_new_call_after_the_window() -> None:
    async with world(Kept, store=Store(), limits=LIMITS) as w:
        await w.run(named(w))
        later(w, WINDOW_S - 1)
        assert reply(await w.run(named(w))).total == 1
        later(w, 2)
        assert reply(await w.run(named(w))).total == 2
        leave_memory(w)
        assert reply(await w.run(named(w))).total == 2


async def test_an_id_of_ours_is_refused_once_its_outcome_may_be_forgotten() -> None:
    async with world(Kept, store=Store()) as w:
        call = minted(w)
        late = minted(w)
        reply(await w.run(replace(call)))
        later(w, MADE_MS / 1000 + 1)
        for one in (call, late):
            answer = refused(await w.run(replace(one)))
            assert (answer.reason, answer.started) == (Reason.REQUEST_TOO_OLD, False)
        assert (await w.read()).total == 1


async def test_an_id_that_follows_from_another_turn_s_is_kept_for_the_window() -> None:
    async with world(Kept, store=Store()) as w:
        id_ = DerivedIds(w.clock.wall_ms(), "the turn").of("the call")
        call = w.call("Write", amount=1, request_id=id_, deadline_s=10_000)
        first = reply(await w.run(replace(call)))
        later(w, 3590)
        assert reply(await w.run(replace(call))) == first
        later(w, 20)
        assert refused(await w.run(replace(call))).reason is Reason.REQUEST_TOO_OLD


async def test_what_does_not_fit_into_memory_is_read_from_the_store() -> None:
    async with world(Kept, store=Store(), limits=HostLimits(repeat_bytes=0)) as w:
        firsts = [await w.run(named(w, f"name {n}")) for n in range(5)]
        assert [await w.run(named(w, f"name {n}")) for n in range(5)] == firsts
        assert (await w.read()).total == 5


@pytest.mark.parametrize("ours", [True, False], ids=["an id of ours", "a caller's name"])
async def test_the_store_is_asked_only_if_it_may_know_more(ours: bool) -> None:
    store = Store()
    async with world(Kept, store=store) as w:
        for n in range(120):
            await w.run(named(w, f"name {n}"))
        assert store.asked == 0, "all that there is was in memory"
        leave_memory(w)
        await w.read()
        assert store.asked == 0, "a read has no outcome"
        later(w, 120)
        await w.run(minted(w) if ours else named(w, "new"))
        assert store.asked == (1 if ours else 2)


async def test_a_first_attempt_under_an_edge_s_id_is_never_looked_up() -> None:
    store = Store()
    async with world(Kept, store=store, limits=HostLimits(repeat_bytes=0)) as w:
        for n in range(5):
            await w.write(amount=n)
        leave_memory(w)
        call, before = minted(w, attempt=1), store.asked
        first = await w.run(replace(call))
        assert store.asked == before
        assert await w.run(replace(call, attempt=2)) == first, "but its repeat is"
        late = minted(w, attempt=1)
        later(w, MADE_MS / 1000 + 1)
        assert isinstance(await w.run(late), Replied), "however late it comes"
