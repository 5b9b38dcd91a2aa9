"""A seed put together: what the settings say reaches the parts that they are for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import pytest
from google.protobuf.message import Message

from seedbed.errors import CallError, Reason
from seedbed.service.telemetry import Telemetry
from seedbed.transport import ServerStreamMethod, UnaryMethod
from seedbed.v1 import admin_pb2 as pb
from seedbed_seed.config import SeedConfig
from seedbed_seed.contracts import Contracts
from seedbed_seed.memory_store import MemoryStore
from seedbed_seed.records import Keys, record_of
from seedbed_seed.seed import Seed
from seedbed_seed.store import Put
from tests.unit.seed.declared import declaration, hello
from tests.unit.seed.scripted import ScriptedCall

SETTINGS = {
    "SEEDBED_ETCD": "memory",
    "SEEDBED_ORDERED_PINS": "2",
    "SEEDBED_ORDERED_NODES": "1",
    "SEEDBED_EVENTS_KEPT": "3",
    "SEEDBED_EVENT_READERS": "1",
}


@asynccontextmanager
async def reading_seed() -> AsyncGenerator[Seed]:
    """A seed that reads its store and serves nobody."""
    config = SeedConfig.read(SETTINGS)
    async with MemoryStore() as store, asyncio.TaskGroup() as tasks:
        seed = Seed(config, store, Telemetry(config.telemetry, service="seed", node="s1"))
        reading = tasks.create_task(seed.view.run())
        yield seed
        reading.cancel()


async def ask(seed: Seed, verb: str, request: Message) -> bytes:
    call = ScriptedCall(f"/seedbed.v1.Admin/{verb}")
    found = seed.admin.find(call.method)
    assert isinstance(found, UnaryMethod)
    return await found.handler(call, request.SerializeToString())


async def full(seed: Seed, verb: str, request: Message) -> str:
    """The refusal of what is one too many."""
    with pytest.raises(CallError) as refused:
        await ask(seed, verb, request)
    assert refused.value.reason is Reason.OVERLOADED
    return refused.value.message


async def test_the_limits_of_orders_are_those_of_the_settings() -> None:
    async with reading_seed() as seed:
        keys = Keys(seed.config.cluster)
        contracts = Contracts(store=seed.store, keys=keys, default_shards=16, timeout_s=1)
        await contracts.register([declaration()])
        for node in ("w1", "w2"):
            record = record_of(hello(node), lease=1, ttl_ms=5000, secret=b"s", replaced="")
            written = await seed.store.write(Put(keys.worker(node), record.SerializeToString()))
        await seed.view.reached(written.revision)
        pins = pb.PinShardsRequest(type="cup", shards=[1, 2], node_id="w1")
        await ask(seed, "PinShards", pins)
        await ask(seed, "Cordon", pb.CordonRequest(node_id="w1"))
        pins.shards.append(3)
        assert "3 shards would be pinned, and 2 may be (SEEDBED_ORDERED_PINS)" in await full(
            seed, "PinShards", pins
        )
        assert "1 may be (SEEDBED_ORDERED_NODES)" in await full(
            seed, "Drain", pb.DrainRequest(node_id="w2")
        )


async def test_the_limits_of_events_are_those_of_the_settings() -> None:
    async with reading_seed() as seed:
        found = seed.admin.find("/seedbed.v1.Admin/WatchEvents")
        assert isinstance(found, ServerStreamMethod)
        for number in range(5):
            seed.events.tell(pb.Event(message=str(number)))
        async with aclosing(events(found)) as first, aclosing(events(found)) as second:
            assert [(await anext(first)).message for _ in range(3)] == ["2", "3", "4"]
            with pytest.raises(CallError, match="SEEDBED_EVENT_READERS") as refused:
                await anext(second)
        assert refused.value.reason is Reason.OVERLOADED


async def events(watch: ServerStreamMethod) -> AsyncGenerator[pb.Event]:
    async for data in watch.handler(ScriptedCall(), b""):
        yield pb.Event.FromString(data)
