"""A routing client, and calls of it, for its tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import grpc
import grpc.aio
import pytest
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from seedbed.client import Client
from tests.integration.sdk.link_worker import LinkWorker, serving

WITHIN = 20.0


@contextlib.asynccontextmanager
async def calling(*addresses: str) -> AsyncGenerator[tuple[rpc.CensusAsyncStub, grpc.aio.Channel]]:
    async with asyncio.timeout(WITHIN), Client(addresses) as channel:
        yield rpc.CensusStub(channel), channel


@contextlib.asynccontextmanager
async def census(worker: LinkWorker) -> AsyncGenerator[rpc.CensusAsyncStub]:
    async with serving(worker), calling(f"127.0.0.1:{worker.port}") as (stub, _):
        yield stub


async def refusal(call: grpc.aio.UnaryUnaryCall[pb.Person, pb.Count]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def until_epoch(stub: rpc.CensusAsyncStub, epoch: int) -> None:
    while (await stub.Get(pb.Person(name="ann"), timeout=5)).epoch != epoch:
        await asyncio.sleep(0.01)
