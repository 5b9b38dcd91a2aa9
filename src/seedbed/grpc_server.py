"""The server side of the seam on grpc.aio: one generic handler, raw bytes, our own statuses.

A call costs one object (handler and `ServerCall` in one) beside what grpc.aio makes itself;
metadata, deadline and peer are looked at only when a handler asks.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import grpc
import grpc.aio

from seedbed.calls import Metadata
from seedbed.clock import Clock
from seedbed.errors import CallError, Reason, SettingsError
from seedbed.grpc_codes import code_of_number
from seedbed.routing import address
from seedbed.status import DETAILS_KEY, shown
from seedbed.tls import TlsFiles
from seedbed.transport import (
    BidiMethod,
    BidiStream,
    Methods,
    Prompt,
    Server,
    ServerStream,
    ServerStreamMethod,
    UnaryMethod,
)

log = logging.getLogger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"

if TYPE_CHECKING:
    _RpcMethodHandler = grpc.RpcMethodHandler[bytes, bytes]
else:
    # grpc.aio only reads the attributes, and its class cannot be subscripted.
    _RpcMethodHandler = object

_NS: Final = 1_000_000_000


class GrpcServer(Server):
    """A listening grpc.aio server."""

    def __init__(
        self,
        methods: Sequence[Methods],
        *,
        options: Sequence[tuple[str, int | str]],
        tls: TlsFiles | None,
        clock: Clock,
    ) -> None:
        self._server = grpc.aio.server(options=options)
        self._handler = _AnyMethod(tuple(methods), clock)
        self._tls = tls
        self._port: int | None = None

    def add_generic(self, handler: grpc.GenericRpcHandler) -> None:
        """Ask this handler first (for servicers of gRPC's own, such as health); before `start`."""
        self._server.add_generic_rpc_handlers((handler,))

    async def start(self, bind: str, port: int) -> int:
        """Listen (port 0: any free); returns the port."""
        listening = address(bind, port)
        _refuse_if_taken(bind, port)
        self._server.add_generic_rpc_handlers((self._handler,))  # last: it knows every path
        try:
            if self._tls is None:
                bound = self._server.add_insecure_port(listening)
            else:
                bound = self._server.add_secure_port(listening, self._tls.server_credentials())
        except RuntimeError as error:
            raise SettingsError(f"cannot listen on {listening}: {error}") from error
        except OSError as error:
            raise SettingsError(
                f"cannot read TLS file {error.filename}: {error.strerror}"
            ) from error
        await self._server.start()
        self._port = bound
        return bound

    async def close(self, grace_s: float) -> None:
        """Stop listening, let running calls end within the grace, then end them."""
        await self._server.stop(grace_s)


def _refuse_if_taken(bind: str, port: int) -> None:
    """Find out by ourselves: gRPC would write lines of its own to stderr about it."""
    if port == 0:
        return
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            raise SettingsError(f"cannot listen on {bind}:{port}: {error.strerror}") from error


class _AnyMethod(grpc.GenericRpcHandler):
    """Finds the handler of every call, those of unknown paths included."""

    def __init__(self, methods: tuple[Methods, ...], clock: Clock) -> None:
        self._finds = tuple(one.find for one in methods)
        self._clock = clock

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        path = handler_call_details.method
        for find in self._finds:
            method = find(path)
            if isinstance(method, UnaryMethod):
                handler = method.prompt or method.handler
                return _UnaryCall(handler_call_details, self._clock, handler)
            if isinstance(method, ServerStreamMethod):
                return _StreamCall(handler_call_details, self._clock, method.handler)
            if isinstance(method, BidiMethod):
                return _BidiCall(handler_call_details, self._clock, method.handler)
        return _UnknownCall(handler_call_details, self._clock)


class _Call(_RpcMethodHandler):
    """One call: grpc.aio's handler for it, and the `ServerCall` that our handlers get."""

    request_streaming = False
    response_streaming = False
    request_deserializer = None
    response_serializer = None
    unary_unary = None
    unary_stream = None
    stream_unary = None
    stream_stream = None

    __slots__ = ("_clock", "_context", "_details", "_initial")

    _context: Context

    def __init__(self, details: grpc.HandlerCallDetails, clock: Clock) -> None:
        self._details = details
        self._clock = clock
        self._initial: Metadata = ()

    @property
    def method(self) -> str:
        return self._details.method

    @property
    def metadata(self) -> Metadata:
        return self._details.invocation_metadata

    @property
    def deadline_ns(self) -> int | None:
        left_s = self._context.time_remaining()
        # Without a deadline it is None, whatever the stub says.
        if left_s is None:  # pyright: ignore[reportUnnecessaryComparison]
            return None
        return self._clock.now_ns() + int(left_s * _NS)

    @property
    def peer(self) -> str:
        return self._context.peer()

    def set_initial(self, metadata: Metadata) -> None:
        self._initial = metadata

    def set_trailing(self, metadata: Metadata) -> None:
        self._context.set_trailing_metadata(metadata)

    async def _fail(self, error: Exception) -> None:
        """End the call with the error's status; an error that is not ours shows only its class."""
        if isinstance(error, grpc.aio.AbortError):
            raise error
        status = shown(error, self.method, log)
        trailing = status.trailing
        if status.details:
            trailing = (*trailing, (DETAILS_KEY, status.details))
        await self._context.abort(code_of_number(status.code), status.message, trailing)


class _UnaryCall(_Call):
    __slots__ = ("_handler",)

    def __init__(self, details: grpc.HandlerCallDetails, clock: Clock, handler: Prompt) -> None:
        self._details = details
        self._clock = clock
        self._initial = ()
        self._handler = handler

    # grpc.aio awaits coroutine functions; the stub knows only the blocking server's shape.
    async def unary_unary(self, request: bytes, context: Context) -> bytes:  # type: ignore[override]
        self._context = context
        try:
            reply = self._handler(self, request)
            if not isinstance(reply, bytes):
                reply = await reply
        except Exception as error:
            await self._fail(error)
            raise
        if self._initial:
            await context.send_initial_metadata(self._initial)
        return reply


class _Streaming(_Call):
    response_streaming = True
    __slots__ = ()

    async def _send(self, items: AsyncIterator[bytes], context: Context) -> None:
        try:
            async for item in items:
                if self._initial:
                    await context.send_initial_metadata(self._initial)
                    self._initial = ()
                await context.write(item)
        except Exception as error:
            await self._fail(error)
            raise
        finally:
            # The caller may be gone in the middle: what the handler holds is given back now.
            if isinstance(items, AsyncGenerator):
                await items.aclose()
        if self._initial:
            await context.send_initial_metadata(self._initial)


class _StreamCall(_Streaming):
    __slots__ = ("_handler",)

    def __init__(
        self, details: grpc.HandlerCallDetails, clock: Clock, handler: ServerStream
    ) -> None:
        super().__init__(details, clock)
        self._handler = handler

    async def unary_stream(self, request: bytes, context: Context) -> None:  # type: ignore[override]
        self._context = context
        await self._send(self._handler(self, request), context)


class _BidiCall(_Streaming):
    request_streaming = True
    __slots__ = ("_handler",)

    def __init__(self, details: grpc.HandlerCallDetails, clock: Clock, handler: BidiStream) -> None:
        super().__init__(details, clock)
        self._handler = handler

    def set_initial(self, metadata: Metadata) -> None:
        """Too late: they have left (empty) before the handler runs."""

    async def stream_stream(  # type: ignore[override]
        self, requests: AsyncIterator[bytes], context: Context
    ) -> None:
        self._context = context
        # At once, so that the client's `opened` returns before anything else is said.
        await context.send_initial_metadata(())
        await self._send(self._handler(self, requests), context)


class _UnknownCall(_Call):
    """A path that nobody here knows. Taken as a stream, so that any kind of call is answered."""

    request_streaming = True
    response_streaming = True
    __slots__ = ()

    async def stream_stream(  # type: ignore[override]
        self, requests: AsyncIterator[bytes], context: Context
    ) -> None:
        self._context = context
        await self._fail(
            CallError(
                Reason.UNKNOWN_METHOD,
                f"no method {self.method} here; check service and method in the path (an entity"
                " service is known once a worker that hosts it has registered)",
            )
        )
