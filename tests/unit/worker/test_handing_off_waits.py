"""What a hand-off waits for, and what it ends: hooks, streams, calls outside and calls in line."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterable
from dataclasses import replace

import pytest

from seedbed.errors import Reason
from seedbed.ids import Epoch, Generation
from seedbed.routing import Release
from seedbed_worker.core.region import Region
from tests.unit.worker import host_world, test_handing_off
from tests.unit.worker.host_world import (
    GATES,
    LOG,
    Probe,
    not_here,
    reason,
    reply,
    settle,
    world,
)
from tests.unit.worker.test_handing_off import (
    LIMIT_S,
    Leaver,
    OutsideProbe,
    hand_off,
    released,
    shard,
)

ENTITIES = 10_000
MANY_SHARDS = 512
HELD_S = 0.05


async def test_a_hook_that_does_not_end_keeps_its_shard_to_the_limit_and_no_longer() -> None:
    async with world(Leaver) as w:
        await w.write("slow")
        hand_off(w, "slow")
        await GATES.reach("slow")
        w.clock.advance(LIMIT_S - 0.1)
        w.renew()
        w.host.tick()
        await settle()
        assert not released(w)
        w.clock.advance(0.3)
        w.host.tick()
        await settle()
        assert released(w) == {shard("slow")}
        assert not w.host.homes["probe"].entities


async def test_a_stream_that_waits_for_credit_moves() -> None:
    async with world() as w:
        watching = w.watch(w.call("Watch"), credit=1)
        await watching.item()
        await w.write()
        await settle()
        assert watching.waiting == 0, "it has another item, and no credit for it"
        hand_off(w, "a")
        assert reason(await watching.end()) is Reason.MOVING
        await settle()
        assert released(w) == {shard("a")}
        assert "watch of a ended" in LOG


async def test_a_stream_in_the_turn_of_an_item_gives_no_further_one() -> None:
    async with world() as w:
        watching = w.watch(w.call("Watch", gate="g"))
        await GATES.reach("g")
        hand_off(w, "a")
        await settle()
        assert not released(w)
        GATES.open("g")
        assert reason(await watching.end()) is Reason.MOVING
        assert watching.waiting == 1, "what had begun came to its reader"
        await settle()
        assert released(w) == {shard("a")}


async def test_a_block_outside_is_given_up_at_the_limit() -> None:
    async with world(OutsideProbe) as w:
        away = w.start(w.call("Write", gate="g"))
        await GATES.reach("g")
        hand_off(w, "a")
        w.clock.advance(LIMIT_S - 0.1)
        w.renew()
        w.host.tick()
        await settle()
        assert not released(w)
        w.clock.advance(0.3)
        w.host.tick()
        assert reason(await away.answer()) is Reason.FENCED
        await settle()
        assert released(w) == {shard("a")}


async def test_a_call_that_is_held_for_a_newer_table_is_refused_when_that_hands_off() -> None:
    async with world() as w:
        ahead = replace(w.call("Write"), generation=Generation(2), epoch=Epoch(2), from_seed=True)
        held = w.start(ahead)
        await settle()
        assert not held.done
        hand_off(w, "a")
        assert held.done, "without waiting for the loop"
        assert not_here(await held.answer())
        assert not LOG


async def test_a_call_in_line_is_refused_at_once_and_never_runs() -> None:
    async with world() as w:
        running = w.start(w.call("Write", amount=1, gate="g"))
        await GATES.reach("g")
        waiting = w.start(w.call("Write", amount=2))
        hand_off(w, "a")
        assert waiting.done
        assert not_here(await waiting.answer())
        GATES.open("g")
        assert reply(await running.answer()).total == 1
        await settle()
        assert "begin a 2" not in LOG
        assert released(w) == {shard("a")}


class Counting(Region):
    """Notes how many shards go at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def release(self, releases: Iterable[Release]) -> None:
        releases = list(releases)
        self.batches.append(len(releases))
        super().release(releases)


@pytest.mark.parametrize("cls", [Probe, Leaver])
async def test_ten_thousand_idle_entities_do_not_hold_the_loop(
    cls: type[Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (host_world, test_handing_off):
        monkeypatch.setattr(module, "SHARDS", MANY_SHARDS)
    region = Counting()
    async with world(cls, region=region) as w:
        for number in range(ENTITIES):
            await w.write(f"k{number}")
        assert len(w.host.homes["probe"].shards) == MANY_SHARDS
        held_s: list[float] = []
        gc.collect()  # what else the tests have left is not the worker's
        before_s = time.thread_time()  # so that other processes do not count
        hand_off(w, everything=True)
        while len(released(w)) < MANY_SHARDS:
            now_s = time.thread_time()
            held_s.append(now_s - before_s)
            before_s = now_s
            await asyncio.sleep(0)
        assert max(held_s) < HELD_S
        assert sum(region.batches) == MANY_SHARDS
        assert len(region.batches) < ENTITIES / 1000 + 3
        assert not w.host.homes["probe"].entities
