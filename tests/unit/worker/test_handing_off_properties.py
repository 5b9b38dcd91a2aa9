"""Hand-offs under any order of tables, calls, clocks and fences: what a worker may never do, and
what it always does in the end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.calls import NotHere
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.routing import Handoff, Owner
from tests.unit.worker.handing_off_witness import Player, Witness
from tests.unit.worker.host_world import (
    GATES,
    SHARDS,
    TTL_NS,
    World,
    new_lease,
    settle,
    world,
)
from tests.unit.worker.test_handing_off import LIMIT_S, shard

OTHER = Owner(NodeId("other"), Incarnation("other"), "127.0.0.1", 2)
KEYS = ("a", "a", "b", "leaver")
"""Half of all that happens is about one entity, or too little would come together."""
TURNS = 2
"""Gates at which turns wait; each is opened once."""

index = st.integers(0, 2)
key = st.sampled_from(KEYS)
STEP = st.one_of(
    st.tuples(st.just("call"), key, st.sampled_from(["Write", "Read", "Act", "Watch"]), index),
    st.tuples(st.just("call ahead"), key, st.just("Write"), index),
    st.tuples(st.just("open"), index),
    st.tuples(st.just("told"), key, st.just("hand off")),
    st.tuples(st.just("told"), key, st.sampled_from(["hand off", "forget", "me", "other"])),
    st.tuples(st.just("write"), key, st.sampled_from(["hand off", "forget", "me", "other"])),
    st.tuples(st.just("observe"), index),
    st.tuples(st.just("hear")),
    st.tuples(st.just("clock"), st.sampled_from([0.001, 1, LIMIT_S - 0.001, LIMIT_S, 6])),
    st.tuples(st.just("clock, no heartbeat"), st.sampled_from([1, LIMIT_S])),
    st.tuples(st.just("tick")),
    st.tuples(st.just("fence"), st.booleans()),
    st.tuples(st.just("join")),
    st.tuples(st.just("settle")),
)


class Play:
    """Does what the steps say; those that make no sense now do nothing."""

    def __init__(self, w: World, witness: Witness) -> None:
        self.w = w
        self.witness = witness
        self.written = [witness.newest]
        self.calls = 0
        self.incarnations = 1

    async def step(self, step: tuple[object, ...]) -> None:
        match step:
            case ("call", str(key), str(method), int(gate)):
                self.call(key, method, gate, ahead=False)
            case ("call ahead", str(key), str(method), int(gate)):
                self.call(key, method, gate, ahead=True)
            case ("open", int(gate)):
                self.open(gate)
            case ("write", str(key), str(what)):
                self.write(shard(key), what)
            case ("told", str(key), str(what)):
                self.write(shard(key), what)
                self.observe(0)
                self.w.host.region_changed()
            case ("observe", int(back)):
                self.observe(back)
            case ("hear",):
                self.w.host.region_changed()
            case ("clock", int() | float() as seconds):
                self.renew(seconds)
                self.w.clock.advance(seconds)
            case ("clock, no heartbeat", int() | float() as seconds):
                self.w.clock.advance(seconds)
            case ("tick",):
                self.w.host.tick()
            case ("fence", bool(at_once)):
                await self.fence(at_once=at_once)
            case ("join",):
                self.join()
            case ("settle",):
                await settle()
            case _:
                raise AssertionError(step)

    def call(self, key: str, method: str, gate: int, *, ahead: bool) -> None:
        witness = self.witness
        self.calls += 1
        name, number = str(self.calls), shard(key)
        call = replace(self.w.call(method, key, gate=f"{gate % TURNS}"), request_id=name)
        if ahead:
            newest = self.written[-1]
            call = replace(
                call, generation=newest.generation, epoch=newest.epoch[number], from_seed=True
            )
        leaves = witness.leaves(number) and not ahead
        on_end = partial(witness.answered, name, number)
        if method == "Watch":
            self.w.host.open(call, partial(witness.item, name, number), on_end, credit=100)
        else:
            self.w.host.submit(call, on_end)
        if leaves and not (witness.answers[name] and isinstance(witness.answers[name][0], NotHere)):
            witness.wrong.append(f"call {name} came to a shard in hand-off and was not refused")

    def open(self, gate: int) -> None:
        name = "leaver" if gate == TURNS else f"{gate % TURNS}"
        GATES.open(name)

    def write(self, number: int, what: str) -> None:
        newest = self.written[-1]
        generation = newest.generation + 1
        handoffs = dict(newest.handoffs)
        newer = replace(newest, generation=Generation(generation))
        match what:
            case "hand off":
                handoffs[number] = Handoff(OTHER.incarnation, LIMIT_S * 1000)
            case "forget":
                handoffs.clear()
            case _:
                handoffs.pop(number, None)
                me = Incarnation(self.witness.serving or "nobody")
                owners = (Owner(NodeId("me"), me, "127.0.0.1", 1), OTHER, *newest.owners)
                owner = [one + 2 if one else 0 for one in newest.owner]
                epoch = list(newest.epoch)
                owner[number] = 1 if what == "me" else 2
                epoch[number] = Epoch(generation)
                newer = replace(newer, owners=owners, owner=tuple(owner), epoch=tuple(epoch))
        self.written.append(replace(newer, handoffs=handoffs))

    def observe(self, back: int) -> None:
        told = self.written[-1 - back % len(self.written)]
        self.w.region.observe([told], self.w.clock.now)

    def renew(self, seconds: float) -> None:
        self.w.seq += 1
        lease, clock = self.w.lease, self.w.clock
        lease.sent(self.w.seq, clock.now + int(seconds * 1e9))
        lease.renewed(self.w.seq, TTL_NS, clock.now)

    async def fence(self, *, at_once: bool) -> None:
        if self.witness.serving is None:
            return
        self.w.region.fence()
        self.w.lease.fence()
        self.witness.serving = None
        if not at_once:  # the loop hears of it later
            await settle()
        self.w.host.drop_all()

    def join(self) -> None:
        if self.witness.serving is not None:
            return
        self.incarnations += 1
        name = f"me {self.incarnations}"
        self.witness.serving = Incarnation(name)
        self.w.lease = new_lease(self.w.clock, name)
        self.w.region.begin(self.w.lease.incarnation)
        self.w.host.begin(self.w.lease)

    async def end(self, *, stuck: bool) -> None:
        """Let everything happen that can; `stuck`: turns do not end, but time passes."""
        self.observe(0)
        self.w.host.region_changed()
        if stuck:
            self.renew(LIMIT_S)
            self.w.clock.advance(LIMIT_S + 0.2)  # timers are no finer than that
            self.w.host.tick()
        else:
            for gate in range(TURNS + 1):
                self.open(gate)
        for _ in range(5):
            await settle()


async def play(steps: list[tuple[object, ...]], *, stuck: bool) -> None:
    witness = Witness()
    Player.turn_begins = lambda entity: witness.turn_begins(entity)
    async with world(Player, region=witness) as w:
        w.host.rt.timers.stop()  # time passes in steps only
        witness.world = w
        it = Play(w, witness)
        for step in steps:
            await it.step(step)
            assert not witness.wrong
        await it.end(stuck=stuck)
        assert not witness.wrong
        for number in range(SHARDS):
            if witness.leaves(number):
                assert (number, witness.mine(number)) in witness.gone
                assert not w.region.owned("probe", number)
    assert not witness.wrong
    unanswered = {str(call) for call in range(1, it.calls + 1)} - {
        call for call, answers in witness.answers.items() if answers
    }
    assert not unanswered


@settings(max_examples=600)
@given(st.lists(STEP, max_size=30), st.booleans())
def test_a_hand_off_keeps_its_promises(steps: list[tuple[object, ...]], stuck: bool) -> None:
    asyncio.run(play(steps, stuck=stuck))
