"""The client side of the seam on grpc.aio, and what its errors mean to us.

A lost stream is told from a status that the peer's application gave: UNAVAILABLE without our
ErrorInfo, a peer's CANCELLED, and INTERNAL or UNKNOWN with a reset are the former (this is how
proxies cut streams), see `docs/errors.md`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import grpc
import grpc.aio

from seedbed.calls import Metadata
from seedbed.grpc_codes import number_of_code
from seedbed.status import DETAILS_KEY, reason_of
from seedbed.tls import TlsFiles
from seedbed.transport import Connection, Disconnected, Duplex, StatusError

Call: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"

_CANCELLED: Final = number_of_code(grpc.StatusCode.CANCELLED)

_NEVER_LEFT: Final = ("failed to connect to all addresses", "DNS resolution failed")
"""How gRPC begins the text of a failure before there was any connection."""

_RESETS: Final = ("RST_STREAM", "Stream removed")


def error_of(error: grpc.aio.AioRpcError) -> Disconnected | StatusError:
    """What a gRPC error means: a broken stream, or the peer's own status."""
    code, text = error.code(), error.details() or ""
    trailing = _metadata(error.trailing_metadata())
    details = next((v for k, v in trailing if k == DETAILS_KEY and isinstance(v, bytes)), b"")
    lost = (
        (code is grpc.StatusCode.UNAVAILABLE and reason_of(details) is None)
        or code is grpc.StatusCode.CANCELLED
        or (
            code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
            and any(reset in text for reset in _RESETS)
        )
    )
    if lost:
        return Disconnected(number_of_code(code), text, reached=not text.startswith(_NEVER_LEFT))
    rest = tuple((k, v) for k, v in trailing if k != DETAILS_KEY)
    return StatusError(number_of_code(code), text, details=details, trailing=rest)


def _metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    return tuple(metadata) if metadata is not None else ()


class GrpcConnection(Connection):
    """One channel to one address; a new one when the TLS files have changed since."""

    def __init__(
        self,
        address: str,
        *,
        options: Sequence[tuple[str, int | str]],
        tls: TlsFiles | None,
        credentials: grpc.ChannelCredentials | None,
        authority: str,
    ) -> None:
        self._address = address
        self._options = options
        self._tls = None if credentials is not None else tls
        self._credentials = credentials
        if authority and (tls is not None or credentials is not None):
            # Pods are dialled by IP address, certificates name the service.
            self._options = (*options, ("grpc.ssl_target_name_override", authority))
        self._version: tuple[int, ...] = ()
        self._channel: grpc.aio.Channel | None = None
        self._old: grpc.aio.Channel | None = None
        self._unary: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}

    async def unary(
        self, method: str, request: bytes, *, timeout: float, metadata: Metadata = ()
    ) -> bytes:
        channel = await self._current()
        call = self._unary.get(method)
        if call is None:
            call = self._unary[method] = channel.unary_unary(method)
        try:
            return await call(request, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None

    def bidi(self, method: str, *, metadata: Metadata = ()) -> GrpcDuplex:
        return GrpcDuplex(self, method, metadata)

    async def open(self, method: str, metadata: Metadata) -> Call:
        """Begin a bidi call (for `GrpcDuplex`)."""
        channel = await self._current()
        start: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
        return start(metadata=metadata)

    async def close(self) -> None:
        for channel in (self._old, self._channel):
            if channel is not None:
                await channel.close()
        self._old = self._channel = None
        self._unary.clear()

    async def _current(self) -> grpc.aio.Channel:
        if self._tls is None:
            if self._channel is None:
                self._channel = (
                    grpc.aio.insecure_channel(self._address, options=self._options)
                    if self._credentials is None
                    else grpc.aio.secure_channel(
                        self._address, self._credentials, options=self._options
                    )
                )
            return self._channel
        version = self._tls.version()
        if self._channel is not None and version == self._version:
            return self._channel
        if self._old is not None:
            await self._old.close()  # two changes ago: nothing of worth runs on it
        self._old = self._channel
        self._unary.clear()
        self._version = version
        credentials = self._tls.channel_credentials()
        self._channel = grpc.aio.secure_channel(self._address, credentials, options=self._options)
        return self._channel


class GrpcDuplex(Duplex):
    """A bidi call. One reader and one writer at a time; a cancelled read ends the call."""

    def __init__(self, connection: GrpcConnection, method: str, metadata: Metadata) -> None:
        self._connection = connection
        self._method = method
        self._metadata = metadata
        self._call: Call | None = None
        self._cancelled = False

    async def opened(self) -> None:
        call = await self._started()
        try:
            await call.initial_metadata()
            # Also set when the call failed before any came: then its status is there.
            if call.done():
                await self._raise_status(call)
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None
        except asyncio.CancelledError:
            _raise_if_ours_is_cancelled()
            raise Disconnected(_CANCELLED, "cancelled", reached=True) from None

    async def write(self, message: bytes) -> None:
        call = self._call or await self._started()
        try:
            await call.write(message)
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None
        except asyncio.InvalidStateError:
            # The call ended meanwhile; grpc.aio says so in this way when it ended with OK.
            raise Disconnected(0, "the peer ended the stream", reached=True) from None
        except asyncio.CancelledError:
            _raise_if_ours_is_cancelled()
            raise Disconnected(_CANCELLED, "cancelled", reached=True) from None

    async def read(self) -> bytes | None:
        call = self._call or await self._started()
        try:
            message = await call.read()
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None
        except asyncio.CancelledError:
            _raise_if_ours_is_cancelled()
            raise Disconnected(_CANCELLED, "cancelled", reached=True) from None
        return message if isinstance(message, bytes) else None

    async def done_writing(self) -> None:
        call = self._call or await self._started()
        try:
            await call.done_writing()
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None
        except asyncio.InvalidStateError:
            return

    def cancel(self) -> None:
        self._cancelled = True
        if self._call is not None:
            self._call.cancel()

    async def _started(self) -> Call:
        if self._call is None:
            if self._cancelled:
                raise Disconnected(_CANCELLED, "cancelled before it began", reached=False)
            self._call = await self._connection.open(self._method, self._metadata)
        return self._call

    async def _raise_status(self, call: Call) -> None:
        code = await call.code()
        if code is grpc.StatusCode.OK:
            return
        raise grpc.aio.AioRpcError(
            code,
            await call.initial_metadata(),
            await call.trailing_metadata(),
            await call.details(),
        )


def _raise_if_ours_is_cancelled() -> None:
    """grpc.aio raises CancelledError also for a call that was cancelled, not only for a task."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
