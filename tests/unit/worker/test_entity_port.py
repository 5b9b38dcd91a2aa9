"""A worker's own port: plain gRPC clients, for the shards that it owns, over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import grpc
import pytest
from probe.v1 import probe_pb2 as pb
from probe.v1 import probe_pb2_grpc as rpc

from seedbed import once, reason
from seedbed.grpc_transport import GrpcTransport
from seedbed_worker.entity_port import EntityPort
from tests.unit.worker.host_world import GATES, TTL_NS, WAIT_S, World, settle, world


@asynccontextmanager
async def served() -> AsyncGenerator[tuple[World, rpc.ProbeAsyncStub]]:
    async with world() as w:
        port = EntityPort(w.host, clock=w.clock, max_message_bytes=1000, default_deadline_s=7)
        server = GrpcTransport(max_message_bytes=None, clock=w.clock).server(port)
        bound = await server.start("127.0.0.1", 0)
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{bound}") as channel:
                yield w, rpc.ProbeStub(channel)
        finally:
            await server.close(0)


async def item(items: grpc.aio.UnaryStreamCall[pb.Request, pb.Reply]) -> pb.Reply:
    reply = await asyncio.wait_for(items.read(), WAIT_S)
    assert isinstance(reply, pb.Reply)
    return reply


async def failed(call: grpc.aio.UnaryUnaryCall[pb.Request, pb.Reply]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_plain_client_is_answered() -> None:
    async with served() as (_, stub):
        assert (await stub.Write(pb.Request(id="a", amount=2), timeout=WAIT_S)).total == 2
        assert (await stub.Read(pb.Request(id="a"), timeout=WAIT_S)).total == 2
        assert (await stub.Read(pb.Request(id="b"), timeout=WAIT_S)).total == 0


async def test_what_this_worker_does_not_own_is_refused() -> None:
    async with served() as (w, stub):
        w.place("other")
        error = await failed(stub.Write(pb.Request(id="a"), timeout=WAIT_S))
        assert (error.code(), reason(error)) == (grpc.StatusCode.UNAVAILABLE, "NOT_OWNER")


async def test_a_fenced_worker_refuses() -> None:
    async with served() as (w, stub):
        w.region.fence()
        w.lease.fence()
        w.host.drop_all()
        error = await failed(stub.Read(pb.Request(id="a"), timeout=WAIT_S))
        assert reason(error) == "NOT_OWNER"


async def test_a_call_that_the_fence_caught_may_have_run() -> None:
    async with served() as (w, stub):
        call = stub.Write(pb.Request(id="a", gate="g"), timeout=WAIT_S)
        await GATES.reach("g")
        w.clock.advance(TTL_NS / 1e9)
        GATES.open("g")
        error = await failed(call)
        assert (error.code(), reason(error)) == (grpc.StatusCode.UNKNOWN, "OUTCOME_UNKNOWN")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (pb.Request(), "BAD_KEY"),
        (pb.Request(id="k" * 1100), "TOO_LARGE"),
        (pb.Request(id="a", how="x" * 1000), "TOO_LARGE"),
    ],
    ids=["no key", "long key", "long request"],
)
async def test_a_bad_request_gets_its_reason(request_: pb.Request, expected: str) -> None:
    async with served() as (_, stub):
        error = await failed(stub.Write(request_, timeout=WAIT_S))
        assert reason(error) == expected


async def test_the_entitys_own_status_and_metadata_arrive() -> None:
    async with served() as (_, stub):
        error = await failed(stub.Act(pb.Request(id="a", how="abort"), timeout=WAIT_S))
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such")
        assert reason(error) == ""
        trailing = error.trailing_metadata()
        assert trailing is not None
        assert ("why", "because") in tuple(trailing)
        call = stub.Act(pb.Request(id="a", how="metadata"), timeout=WAIT_S, metadata=once("k-1"))
        assert "idempotency-key='k-1'" in (await call).text
        assert ("first", "1") in tuple(await call.initial_metadata())
        assert ("last", "2") in tuple(await call.trailing_metadata())


async def test_the_idempotency_key_is_the_request_id() -> None:
    async with served() as (_, stub):
        request = pb.Request(id="a", how="turn")
        said = await stub.Act(request, timeout=WAIT_S, metadata=once("my-key"))
        assert "request_id='my-key'" in said.text


async def test_a_call_without_a_deadline_is_told_the_default() -> None:
    async with served() as (_, stub):
        call = stub.Read(pb.Request(id="a"))
        await call
        assert ("seedbed-default-deadline-ms", "7000") in tuple(await call.trailing_metadata())


async def test_a_stream_gives_items_and_ends_with_its_status() -> None:
    async with served() as (w, stub):
        items = stub.Watch(pb.Request(id="a"))
        assert (await item(items)).total == 0
        await w.write(amount=4)
        assert (await item(items)).total == 4
        w.place("other")
        w.host.region_changed()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(items.read(), WAIT_S)
        assert reason(caught.value) == "MOVING"


async def test_a_client_that_goes_away_ends_its_stream() -> None:
    async with served() as (w, stub):
        items = stub.Watch(pb.Request(id="a"))
        await asyncio.wait_for(items.read(), WAIT_S)
        items.cancel()
        async with asyncio.timeout(WAIT_S):
            while w.host.rt.streams:
                await settle()
                await w.read()  # gives gRPC's own threads time, and is bounded


async def test_many_items_arrive_in_order() -> None:
    async with served() as (w, stub):
        items = stub.Watch(pb.Request(id="a"))
        seen = [(await item(items)).total]
        writers = [w.start(w.call("Write", amount=1)) for _ in range(200)]
        while seen[-1] < 200:
            seen.append((await item(items)).total)
        assert seen == sorted(seen)
        for writer in writers:
            await writer.answer()
