"""A seed's router over real gRPC."""

from __future__ import annotations

import asyncio

import pytest

from seedbed.calls import EntityCall, Replied
from seedbed.clock import SystemClock
from seedbed.grpc_transport import GrpcTransport
from seedbed.router import Router, RouterLimits
from seedbed.routing import RouteTable
from tests.integration.sdk.link_worker import LinkWorker, serving

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(("role", "told"), [("seed", {"seed"}), ("", set[str]())])
async def test_a_worker_is_told_whether_a_seed_calls(role: str, told: set[str]) -> None:
    worker, clock = LinkWorker(), SystemClock()
    router = Router(
        transport=GrpcTransport(max_message_bytes=None),
        clock=clock,
        node="s",
        limits=RouterLimits(),
        table=RouteTable(),
        outlook=None,
        role=role,
    )
    async with serving(worker), asyncio.timeout(10), asyncio.TaskGroup() as group:
        running = group.create_task(router.run())
        await asyncio.sleep(0)
        router.routes_changed(
            1,
            [worker.table()],
            snapshot=True,
            unreachable=frozenset(),
            without_workers=frozenset(),
        )
        deadline_ns = clock.now_ns() + 5_000_000_000
        call = EntityCall("/census.v1.Census/Get", "census", "ann", 1, b"", deadline_ns)
        assert isinstance(await router.unary(call, repeatable=True, read_only=True), Replied)
        running.cancel()
    assert worker.roles == told
