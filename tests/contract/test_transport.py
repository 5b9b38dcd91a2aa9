"""The transport seam: what handlers and clients may rely on, on gRPC and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

import pytest

from seedbed.clock import SystemClock
from seedbed.errors import CallError, Reason, SettingsError
from seedbed.grpc_transport import GrpcTransport
from seedbed.status import reason_of
from seedbed.testing.memory_transport import MemoryTransport
from seedbed.transport import (
    BidiMethod,
    Connection,
    Disconnected,
    Duplex,
    Server,
    ServerCall,
    ServerStreamMethod,
    StatusError,
    Transport,
    UnaryMethod,
)
from tests.support.transport_calls import Table, ask, echo, refused, unary

Kind: TypeAlias = Literal["grpc", "memory"]


@pytest.fixture(params=["grpc", "memory"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Which implementation."""
    return "memory" if request.param == "memory" else "grpc"


@asynccontextmanager
async def serving(kind: Kind, *tables: Table) -> AsyncGenerator[tuple[Server, Connection]]:
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        transport: Transport = GrpcTransport(max_message_bytes=1000)
        if kind == "memory":
            transport = MemoryTransport(tasks, SystemClock())
        server = transport.server(*tables)
        port = await server.start("127.0.0.1", 0)
        connection = transport.connect(f"127.0.0.1:{port}")
        try:
            yield server, connection
        finally:
            await connection.close()
            await server.close(0)


async def numbers(call: ServerCall, request: bytes) -> AsyncIterator[bytes]:
    call.set_initial((("first", "1"),))
    for n in range(int(request)):
        yield b"%d" % n
    if request == b"2":
        raise StatusError(9, "enough")


async def opened(connection: Connection, request: bytes) -> Duplex:
    stream = connection.bidi("/test.S/M")
    await stream.write(request)
    await stream.done_writing()
    return stream


async def relay(call: ServerCall, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for message in messages:
        if message == b"status":
            raise StatusError(3, "garbage")
        if message == b"end":
            return
        yield message


async def test_a_handlers_status_arrives_with_its_details(kind: Kind) -> None:
    async def handler(call: ServerCall, request: bytes) -> bytes:
        if request == b"ours":
            raise CallError(Reason.OVERLOADED, "full", retry_after_s=2)
        raise StatusError(9, "closed", details=b"\x08\x09", trailing=(("why", "so"),))

    async with serving(kind, unary(handler)) as (_, connection):
        error = await refused(connection)
        assert (error.code, error.message, error.details) == (9, "closed", b"\x08\x09")
        assert ("why", "so") in error.trailing
        error = await refused(connection, b"ours")
        assert reason_of(error.details) is Reason.OVERLOADED
        assert ("grpc-retry-pushback-ms", "2000") in error.trailing


async def test_an_unknown_path_says_what_to_do(kind: Kind) -> None:
    async with serving(kind, unary(echo)) as (_, connection):
        error = await refused(connection, method="Nothing")
        assert error.code == 12
        assert reason_of(error.details) is Reason.UNKNOWN_METHOD
        assert "/test.S/Nothing" in error.message
        assert await ask(connection) == b"x"


async def test_each_of_the_methods_is_asked_anew_for_each_call(kind: Kind) -> None:
    late = Table()
    async with serving(kind, unary(echo), late) as (_, connection):
        assert (await refused(connection, method="Late")).code == 12
        late.methods["/test.S/Late"] = UnaryMethod(echo)
        assert await ask(connection, method="Late") == b"x"


async def test_a_handler_is_cancelled_when_its_caller_goes(kind: Kind) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def handler(call: ServerCall, request: bytes) -> bytes:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return request

    async with serving(kind, unary(handler)) as (_, connection), asyncio.TaskGroup() as g:
        task = g.create_task(ask(connection))
        await started.wait()
        task.cancel()
        await ended.wait()


async def test_a_server_stream_gives_items_and_its_status(kind: Kind) -> None:
    async with serving(kind, Table(M=ServerStreamMethod(numbers))) as (_, connection):
        stream = await opened(connection, b"3")
        assert [await stream.read() for _ in range(4)] == [b"0", b"1", b"2", None]
        stream = await opened(connection, b"2")
        assert [await stream.read() for _ in range(2)] == [b"0", b"1"]
        with pytest.raises(StatusError) as caught:
            await stream.read()
        assert caught.value.message == "enough"


async def test_a_server_streams_handler_is_closed_when_its_reader_goes(kind: Kind) -> None:
    ended = asyncio.Event()

    async def forever(call: ServerCall, request: bytes) -> AsyncIterator[bytes]:
        try:
            while True:
                yield request
                await asyncio.sleep(0)
        finally:
            ended.set()

    async with serving(kind, Table(M=ServerStreamMethod(forever))) as (_, connection):
        stream = await opened(connection, b"x")
        assert await stream.read() == b"x"
        stream.cancel()
        await ended.wait()


async def test_a_bidi_stream_carries_messages_both_ways(kind: Kind) -> None:
    async with serving(kind, Table(M=BidiMethod(relay))) as (_, connection):
        stream = connection.bidi("/test.S/M")
        await stream.opened()
        for message in (b"1", b"2"):
            await stream.write(message)
            assert await stream.read() == message
        await stream.done_writing()
        assert await stream.read() is None


async def test_a_bidi_stream_ends_with_the_peers_status_or_its_good_end(kind: Kind) -> None:
    async with serving(kind, Table(M=BidiMethod(relay))) as (_, connection):
        stream = connection.bidi("/test.S/M")
        await stream.write(b"status")
        with pytest.raises(StatusError) as caught:
            await stream.read()
        assert caught.value.code == 3
        with pytest.raises(Disconnected):
            await stream.write(b"too late")
        stream = connection.bidi("/test.S/M")
        await stream.write(b"end")
        assert await stream.read() is None


async def test_an_address_where_nobody_listens_cannot_have_been_reached(kind: Kind) -> None:
    async with serving(kind, unary(echo)) as (server, connection):
        await server.close(0)
        for failing in (connection.bidi("/test.S/M").opened(), ask(connection)):
            with pytest.raises(Disconnected) as caught:
                await failing
            assert not caught.value.reached


async def test_a_server_that_goes_may_have_been_reached(kind: Kind) -> None:
    async with serving(kind, Table(M=BidiMethod(relay))) as (server, connection):
        stream = connection.bidi("/test.S/M")
        await stream.opened()
        await server.close(0)
        with pytest.raises(Disconnected) as caught:
            await stream.read()
        assert caught.value.reached


async def test_a_cancelled_stream_is_a_lost_one_and_no_cancelled_task(kind: Kind) -> None:
    async with serving(kind, Table(M=BidiMethod(relay))) as (_, connection):
        stream = connection.bidi("/test.S/M")
        await stream.opened()
        await stream.write(b"1")
        assert await stream.read() == b"1"
        await stream.write(b"2")
        await asyncio.sleep(0.02)  # its echo may be here
        stream.cancel()
        with pytest.raises(Disconnected):
            await stream.read()


async def test_a_deadline_that_passes_ends_the_call(kind: Kind) -> None:
    async def handler(call: ServerCall, request: bytes) -> bytes:
        assert call.deadline_ns is not None
        await asyncio.Event().wait()
        return request

    async with serving(kind, unary(handler)) as (_, connection):
        with pytest.raises(StatusError) as caught:
            await connection.unary("/test.S/M", b"x", timeout=0.05)
        assert caught.value.code == 4


async def test_a_stream_may_be_full_and_its_writer_waits(kind: Kind) -> None:
    gate = asyncio.Event()

    async def late(call: ServerCall, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        await gate.wait()
        async for message in messages:
            yield message

    async with serving(kind, Table(M=BidiMethod(late))) as (_, connection):
        stream = connection.bidi("/test.S/M")
        written = 0

        async def write() -> None:
            nonlocal written
            while True:
                await stream.write(bytes(1000))
                written += 1

        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(write())
            before = -1
            while written > before or not written:
                before = written
                await asyncio.sleep(0.05)  # it goes on as long as there is room
            gate.set()
            for _ in range(written):
                assert await stream.read() == bytes(1000)
            writing.cancel()


async def test_two_servers_cannot_have_one_address(kind: Kind) -> None:
    async with asyncio.TaskGroup() as tasks:
        transport: Transport = GrpcTransport(max_message_bytes=1000)
        if kind == "memory":
            transport = MemoryTransport(tasks, SystemClock())
        first, second = transport.server(), transport.server()
        port = await first.start("127.0.0.1", 0)
        with pytest.raises(SettingsError):
            await second.start("127.0.0.1", port)
        await first.close(0)
