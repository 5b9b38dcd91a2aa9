"""gRPC health answers what the process last said about itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from grpc_health.v1 import health_pb2 as pb

from seedbed.calls import Metadata
from seedbed.service.health import Health
from seedbed.transport import ServerStreamMethod, StatusError, UnaryMethod


class Call:
    """A call of which nothing matters."""

    method = "/grpc.health.v1.Health/Check"
    metadata: Metadata = ()
    deadline_ns: int | None = None
    peer = ""

    def set_initial(self, metadata: Metadata) -> None: ...

    def set_trailing(self, metadata: Metadata) -> None: ...


SERVING = pb.HealthCheckResponse.SERVING
NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING


def request(service: str) -> bytes:
    return pb.HealthCheckRequest(service=service).SerializeToString()


async def check(health: Health, service: str) -> int:
    method = health.find("/grpc.health.v1.Health/Check")
    assert isinstance(method, UnaryMethod)
    return pb.HealthCheckResponse.FromString(await method.handler(Call(), request(service))).status


def watch(health: Health, service: str) -> AsyncIterator[bytes]:
    method = health.find("/grpc.health.v1.Health/Watch")
    assert isinstance(method, ServerStreamMethod)
    return method.handler(Call(), request(service))


async def next_of(stream: AsyncIterator[bytes]) -> int:
    async with asyncio.timeout(5):
        return pb.HealthCheckResponse.FromString(await anext(stream)).status


async def test_a_process_begins_alive_and_not_ready() -> None:
    health = Health()
    assert await check(health, "liveness") == SERVING
    assert await check(health, "readiness") == NOT_SERVING
    assert await check(health, "") == NOT_SERVING


async def test_entity_services_come_and_go() -> None:
    health = Health()
    health.set(ready=True, services={"shop.v1.Cart": True})
    assert await check(health, "") == SERVING
    assert await check(health, "shop.v1.Cart") == SERVING
    health.set(ready=True)
    with pytest.raises(StatusError) as caught:
        await check(health, "shop.v1.Cart")
    assert caught.value.code == 5


async def test_a_watch_tells_each_change_once() -> None:
    health = Health()
    stream = watch(health, "shop.v1.Cart")
    assert await next_of(stream) == pb.HealthCheckResponse.SERVICE_UNKNOWN
    health.set(ready=True, services={"shop.v1.Cart": False})
    assert await next_of(stream) == NOT_SERVING
    health.set(ready=False, services={"shop.v1.Cart": False})
    health.set(ready=True, services={"shop.v1.Cart": True})
    assert await next_of(stream) == SERVING


async def test_bytes_that_are_no_request_are_refused() -> None:
    method = Health().find("/grpc.health.v1.Health/Check")
    assert isinstance(method, UnaryMethod)
    with pytest.raises(StatusError) as caught:
        await method.handler(Call(), b"\xff\xff")
    assert caught.value.code == 3


def test_other_paths_are_not_ours() -> None:
    assert Health().find("/grpc.health.v1.Health/Other") is None
