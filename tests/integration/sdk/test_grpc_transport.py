"""The transport seam on real gRPC: what handlers and clients of it may rely on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from seedbed.clock import SystemClock
from seedbed.errors import SettingsError
from seedbed.grpc_server import GrpcServer
from seedbed.grpc_transport import GrpcTransport, TlsFiles
from seedbed.transport import (
    Connection,
    Disconnected,
    ServerCall,
)
from tests.integration.sdk.certificates import Authority
from tests.support.transport_calls import DEADLINE_S, Table, ask, echo, refused, unary

pytestmark = pytest.mark.integration


@contextlib.asynccontextmanager
async def serving(
    transport: GrpcTransport, *tables: Table
) -> AsyncGenerator[tuple[GrpcServer, Connection, int]]:
    server = transport.server(*tables)
    port = await server.start("127.0.0.1", 0)
    connection = transport.connect(f"127.0.0.1:{port}")
    try:
        async with asyncio.timeout(30):
            yield server, connection, port
    finally:
        await connection.close()
        await server.close(0)


def transport(max_message_bytes: int | None = 1000) -> GrpcTransport:
    return GrpcTransport(max_message_bytes=max_message_bytes)


async def test_a_call_knows_its_path_metadata_deadline_and_peer() -> None:
    seen: list[tuple[str, bool, float, str]] = []

    async def handler(call: ServerCall, request: bytes) -> bytes:
        assert call.deadline_ns is not None
        left_s = (call.deadline_ns - SystemClock().now_ns()) / 1e9
        seen.append((call.method, ("tenant", "acme") in call.metadata, left_s, call.peer))
        return request

    async with serving(transport(), unary(handler)) as (_, connection, _):
        reply = await connection.unary(
            "/test.S/M", b"hello", timeout=DEADLINE_S, metadata=(("tenant", "acme"),)
        )
    assert reply == b"hello"
    [(method, tenant, left_s, peer)] = seen
    assert (method, tenant) == ("/test.S/M", True)
    assert abs(left_s - DEADLINE_S) < 1
    assert peer.startswith("ipv4:127.0.0.1:")


async def test_a_call_without_a_deadline_has_none_and_metadata_comes_back() -> None:
    async def handler(call: ServerCall, request: bytes) -> bytes:
        assert call.deadline_ns is None
        call.set_initial((("first", "1"),))
        call.set_trailing((("last-bin", b"\x00"),))
        return request

    async with (
        serving(transport(), unary(handler)) as (_, _, port),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.S/M")
        call = method(b"x")
        assert await call == b"x"
        assert ("first", "1") in tuple(await call.initial_metadata())
        assert ("last-bin", b"\x00") in tuple(await call.trailing_metadata())


async def test_an_error_of_a_handler_shows_only_its_class_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(call: ServerCall, request: bytes) -> bytes:
        raise ValueError("a secret")

    async with serving(transport(), unary(handler)) as (_, connection, _):
        error = await refused(connection)
    assert (error.code, error.message) == (2, "ValueError")
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert (record.name, record.message) == ("seedbed.grpc_server", "handler failed")
    assert record.exc_info is not None


async def test_a_message_over_grpcs_own_limit_is_refused_and_the_server_stays() -> None:
    async with serving(transport(1000), unary(echo)) as (_, connection, _):
        assert len(await ask(connection, bytes(2000))) == 2000  # ours to refuse, not gRPC's
        assert (await refused(connection, bytes(70_000))).code == 8
        assert await ask(connection) == b"x"


async def test_a_server_without_a_limit_takes_large_messages() -> None:
    async with serving(transport(None), unary(echo)) as (_, connection, _):
        assert len(await ask(connection, bytes(8_000_000))) == 8_000_000


async def test_a_port_in_use_is_a_settings_error() -> None:
    async with serving(transport(), unary(echo)) as (_, _, port):
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}"):
            await transport().server().start("127.0.0.1", port)


async def test_mutual_tls_takes_new_files_for_new_connections(tmp_path: Path) -> None:
    authority = Authority()
    files = authority.issue(tmp_path)
    secure = GrpcTransport(max_message_bytes=1000, tls=files, authority="seedbed.test")
    async with serving(secure, unary(echo)) as (_, connection, port):
        assert await ask(connection) == b"x"
        plain = transport().connect(f"127.0.0.1:{port}")
        with pytest.raises(Disconnected):
            await ask(plain)
        await plain.close()
        # A new authority: whoever still showed the old certificate would be refused.
        Authority().issue(tmp_path)
        assert await ask(connection) == b"x"
        assert isinstance(files, TlsFiles)
