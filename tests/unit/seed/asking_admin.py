"""Asking a seed's Admin: one call, its refusal, and seeds with workers to order about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from google.protobuf.message import Message

from seedbed.errors import CallError, Reason
from seedbed.transport import UnaryMethod
from seedbed.v1 import admin_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_seed.leader_verbs import FORWARDED_KEY
from tests.unit.seed.declared import hello
from tests.unit.seed.desk import Desk, desk, two_desks
from tests.unit.seed.scripted import ScriptedCall


async def ask(seed: Desk, verb: str, request: Message, *, forwarded: bool = False) -> bytes:
    metadata = ((FORWARDED_KEY, "s9"),) if forwarded else ()
    call = ScriptedCall(f"/seedbed.v1.Admin/{verb}", metadata)
    found = seed.admin.find(call.method)
    assert isinstance(found, UnaryMethod)
    return await found.handler(call, request.SerializeToString())


async def refusal(seed: Desk, verb: str, request: Message) -> str:
    with pytest.raises(CallError) as raised:
        await ask(seed, verb, request)
    assert raised.value.reason is Reason.BAD_REQUEST
    return raised.value.message


async def plan(seed: Desk) -> pb.RebalanceResponse:
    return pb.RebalanceResponse.FromString(await ask(seed, "Rebalance", pb.RebalanceRequest()))


async def up(seed: Desk, *nodes: str) -> None:
    """These workers; the first of them owns all shards."""
    for port, node in enumerate(nodes, 4000):
        worker, _ = await seed.join(hello(node, port=port))
        await worker.ack()
        await seed.until_status(node, store_pb2.MEMBER_STATUS_UP)
        await seed.until("a table", lambda: ("cup", 0) in seed.view.tables)


@asynccontextmanager
async def two_workers() -> AsyncGenerator[Desk, None]:
    async with desk(ttl_s=3, driving=True) as seed:
        await up(seed, "w1", "w2")
        yield seed


@asynccontextmanager
async def two_seeds() -> AsyncGenerator[tuple[Desk, Desk], None]:
    async with two_desks() as (leader, other, _):
        async with asyncio.timeout(5):
            while not leader.driver.leading:
                await asyncio.sleep(0.01)
        yield leader, other
