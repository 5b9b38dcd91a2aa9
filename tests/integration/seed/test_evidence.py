"""Dials over real sockets: who listens where."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from seedbed.grpc_transport import GrpcTransport
from seedbed.transport import Method, ServerCall, UnaryMethod
from seedbed.v1 import link_pb2
from seedbed_seed.evidence import IDENTIFY, Dialler, Identified, Silence, is_literal

pytestmark = pytest.mark.integration

TRANSPORT = GrpcTransport(max_message_bytes=1 << 20)


class Named:
    """Says who it is, as a worker's Link does."""

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation

    def find(self, method: str) -> Method | None:
        return UnaryMethod(self._identify) if method == IDENTIFY else None

    async def _identify(self, call: ServerCall, request: bytes) -> bytes:
        return link_pb2.IdentifyResponse(
            node_id="w1", incarnation=self.incarnation
        ).SerializeToString()


@asynccontextmanager
async def listening(incarnation: str) -> AsyncGenerator[int, None]:
    server = TRANSPORT.server(Named(incarnation))
    port = await server.start("127.0.0.1", 0)
    try:
        yield port
    finally:
        await server.close(0)


async def test_a_worker_is_identified() -> None:
    async with listening("w1-a") as port:
        dialler = Dialler(TRANSPORT)
        assert await dialler.dial("127.0.0.1", port, 2.0) == Identified("w1", "w1-a")
        assert not await dialler.is_dead("127.0.0.1", port, "w1-a")


async def test_a_port_where_nobody_listens_refuses() -> None:
    async with listening("w1-a") as port:
        pass
    dialler = Dialler(TRANSPORT)
    assert await dialler.dial("127.0.0.1", port, 2.0) is Silence.REFUSED
    assert await dialler.is_dead("127.0.0.1", port, "w1-a")


async def test_a_listener_that_accepts_and_says_nothing_is_unknown() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        dialler = Dialler(TRANSPORT)
        assert await dialler.dial("127.0.0.1", port, 0.3) is Silence.UNKNOWN
        assert not await dialler.is_dead("127.0.0.1", port, "w1-a")


async def test_a_name_that_leads_nowhere_is_unknown() -> None:
    dialler = Dialler(TRANSPORT)
    assert await dialler.dial("no-such-host.invalid", 1, 2.0) is Silence.UNKNOWN


@pytest.mark.parametrize(
    ("host", "literal"),
    [("10.0.0.1", True), ("::1", True), ("localhost", False), ("w1.svc", False)],
)
def test_only_addresses_are_literal(host: str, literal: bool) -> None:
    assert is_literal(host) is literal
