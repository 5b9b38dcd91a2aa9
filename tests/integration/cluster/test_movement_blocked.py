"""A turn blocks the loop of its worker, whose shards are to move. The lease goes on, by a thread of
its own, but nothing is released: the hand-offs end by the clock, and nobody answers twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest

from seedbed.sharding import shard_of
from seedbed.v1 import admin_pb2, admin_pb2_grpc
from tests.support.effects import Effect, effects_of
from tests.support.load import REFUSALS, Call, Load, back
from tests.support.movement import KEYS, TYPE, Scene, busy, calls_under_way, gauge, keys_on
from tests.support.processes import Node
from tests.support.waiting import now, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

TTL_S = 2
LIMIT_S = 4.0
ENV = {"SEEDBED_LEASE_TTL_S": str(TTL_S), "SEEDBED_HANDOFF_TIMEOUT_S": str(LIMIT_S)}
ENDS_S = LIMIT_S + TTL_S
"""From when on a shard is given to another, whatever its owner says."""
SLACK_S = 0.5
RUNNING, QUEUED = 10, 5
PATIENT_S = 20.0
"""Deadline of calls that are to learn what became of them."""
OF_THE_CLIENT = ""
"""The reason of a deadline that the caller's own channel saw first."""


@dataclass
class Blocked:
    """A worker whose loop stands still, and the calls that are in it."""

    seen: Scene
    worker: Node
    entry: str
    key: str
    """Of the entity whose turn blocks."""
    keys: list[str]
    """Of those whose turns run."""
    blocking: asyncio.Task[Call]
    running: list[asyncio.Task[Call]]
    """Each on a shard of its own; their turns would end while the loop is blocked."""
    queued: list[asyncio.Task[Call]]
    """They stand in line behind the turn that blocks."""
    loaded: list[str]
    """Keys of the load that this worker answers."""

    @asynccontextmanager
    async def admin(self) -> AsyncGenerator[admin_pb2_grpc.AdminAsyncStub, None]:
        async with grpc.aio.insecure_channel(self.entry) as channel:
            yield admin_pb2_grpc.AdminStub(channel)

    async def stands_still(self) -> bool:
        """Is the loop still blocked?"""
        return await gauge(self.worker, "seedbed_loop_lag_seconds") > 1.0

    def check(self, strike: float, moved: set[int]) -> None:
        """These shards had one owner at a time, and the old one was silent from its limit on."""
        everything = [*self.seen.load.calls, *self.seen.others]
        Load(everything).check_single_owner()
        self.seen.check_effects(REFUSALS | {OF_THE_CLIENT})
        codes = {call.code for call in everything if call.reason == OF_THE_CLIENT and not call.ok}
        assert codes <= {grpc.StatusCode.DEADLINE_EXCEEDED}
        late = [
            call
            for call in everything
            if call.ok and call.worker == self.worker.name and _shard(call.key) in moved
            if call.done > strike + LIMIT_S + SLACK_S
        ]
        assert not late, f"answered after the limit: {late[0]}"

    def done_here(self, calls: list[Call]) -> list[Effect]:
        """What this worker has done of these calls."""
        numbers = {call.number for call in calls}
        return [
            effect
            for effect in effects_of(self.seen.effects)
            if effect.number in numbers and effect.worker == self.worker.name
        ]


@asynccontextmanager
async def blocked(folder: Path, seconds: float) -> AsyncGenerator[Blocked, None]:
    """The first worker's loop stands still for so long from the beginning of the scope on."""
    async with (
        busy(folder, many=RUNNING, seconds=3.0, env=ENV) as (seen, running),
        asyncio.TaskGroup() as tasks,
    ):
        entry, worker = seen.cluster.seeds[1].grpc, seen.cluster.workers[0]
        *keys, key = keys_on(await seen.cluster.status(), worker.name, RUNNING + 1)
        blocking = tasks.create_task(  # by no router, which would give up and hide a late answer
            seen.slow(key, 1.0, entry=worker.grpc, timeout=PATIENT_S, block=seconds)
        )
        await calls_under_way(worker, RUNNING + 1)
        queued = [
            tasks.create_task(seen.add(key, entry=entry, timeout=PATIENT_S)) for _ in range(QUEUED)
        ]
        await calls_under_way(worker, RUNNING + 1 + QUEUED)
        await until(
            "the turn blocks, since it has had its effect",
            lambda: any(effect.key == key for effect in effects_of(seen.effects)),
            within=5,
        )
        owners = {call.key: call.worker for call in seen.load.calls if call.ok}
        loaded = [loaded for loaded in KEYS if owners[loaded] == worker.name]
        yield Blocked(seen, worker, entry, key, keys, blocking, running, queued, loaded)


async def test_a_drain_ends_though_its_worker_is_blocked(tmp_path: Path) -> None:
    async with blocked(tmp_path, 10.0) as it:
        status = await it.seen.cluster.status()
        moved = {number for _, number in status.owned_by(it.worker.name)}
        strike = now()
        async with it.admin() as admin:
            await admin.Drain(admin_pb2.DrainRequest(node_id=it.worker.name), timeout=5)
        took = await back(it.seen.load, it.loaded, strike, within=ENDS_S + 2)
        next_one = await it.seen.add(it.key, entry=it.entry, timeout=1)
        assert next_one.ok, next_one
        assert await it.stands_still(), "it could not be asked in all this time"
        assert await gauge(it.worker, "seedbed_lease_margin_seconds") > 0
        assert took >= ENDS_S, "and had its lease"
        async with asyncio.TaskGroup() as late:
            # They wait in the old owner until its loop goes on, after others have answered.
            direct = [
                late.create_task(it.seen.add(key, entry=it.worker.grpc, timeout=PATIENT_S))
                for key in (it.key, *it.loaded)
            ]
        await it.seen.streams.reopened()
        stopped = [await call for call in (it.blocking, *it.running, *it.queued)]
    print(it.seen.report(f"drain of a blocked worker, all back after {took:.2f} s"))
    assert {call.reason for call in stopped} == {"OUTCOME_UNKNOWN"}
    assert it.done_here(stopped[1:]) == [], "nothing begins or goes on where it was"
    assert {call.result().reason for call in direct} == {"NOT_OWNER"}
    it.check(strike, moved)


async def test_a_worker_that_is_blocked_past_the_limit_of_a_move_answers_nothing(
    tmp_path: Path,
) -> None:
    async with blocked(tmp_path, LIMIT_S + 1.0) as it:
        loaded = it.loaded[:20]
        moved = {_shard(key) for key in (it.key, *it.keys, *loaded)}
        strike = now()
        async with it.admin() as admin:
            order = admin_pb2.MoveShardsRequest(
                type=TYPE, shards=sorted(moved), node_id=it.seen.cluster.workers[1].name
            )
            await admin.MoveShards(order, timeout=5)
        took = await back(it.seen.load, loaded, strike, within=ENDS_S + 2)
        assert took >= LIMIT_S, "it could not be asked before"
        queued = [await call for call in it.queued]
        stopped = [await call for call in (it.blocking, *it.running)]
        await it.seen.streams.reopened()
    print(it.seen.report(f"move from a blocked worker, all back after {took:.2f} s"))
    assert {call.reason for call in stopped} == {"OUTCOME_UNKNOWN"}
    assert all(call.ok for call in queued), next(call for call in queued if not call.ok)
    assert it.done_here(queued) == [], "those that waited began elsewhere"
    it.check(strike, moved)


def _shard(key: str) -> int:
    return shard_of(key.encode(), 1024)
