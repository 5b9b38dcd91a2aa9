"""Calls that go outside, in any order."""

from __future__ import annotations

import asyncio
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from seedbed.calls import EntityCall
from tests.unit.worker.commits_world import Store
from tests.unit.worker.host_world import (
    GATES,
    Pending,
    Probe,
    World,
    settle,
    world,
)
from tests.unit.worker.outside_world import Kept, of


@settings(max_examples=60, deadline=None)
@given(
    durable=st.booleans(),
    calls=st.lists(st.sampled_from(["write", "out", "fail", "read", "leave"]), max_size=12),
    order=st.randoms(use_true_random=False),
)
def test_in_any_order_every_change_is_kept_once_and_nothing_is_left(
    durable: bool, calls: list[str], order: Random
) -> None:
    asyncio.run(_any_order(of(durable=durable), calls, order))


async def _any_order(cls: type[Probe], calls: list[str], order: Random) -> None:
    async with world(cls, store=Store()) as w:
        pending: list[Pending] = []
        total = 0
        for number, what in enumerate(calls):
            gate = f"g{number}"
            call, kept = _one(w, what, gate)
            pending.append(w.start(call))
            total += kept
            if number % 3 == 0:
                await settle()
        gates = [f"g{number}" for number in range(len(calls))]
        order.shuffle(gates)
        for gate in gates:
            GATES.open(gate)
            await settle()
        for one in pending:
            await one.answer()
        await settle()
        if cls is Kept:  # a volatile one forgets when it leaves
            after = await w.read()
            assert after.total == total
        assert (w.host.rt.calls, len(w.host.homes["probe"].cells)) == (0, 0)


def _one(w: World, what: str, gate: str) -> tuple[EntityCall, int]:
    """A call, and what it adds in all."""
    match what:
        case "write":
            return w.call("Write", amount=1, gate=gate), 1
        case "out":
            return w.call("Act", how="out and back", amount=1, gate=gate), 2
        case "fail":
            return w.call("Act", how="fail in the block", amount=1, gate=gate), 1
        case "leave":
            return w.call("Act", how="passivate", amount=1, gate=gate), 2
        case _:
            return w.call("Read", gate=gate), 0
