"""The `grpc.aio.Channel` that generated stubs of entity services are built on."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NoReturn, Self, TypeVar

import grpc
import grpc.aio

from seedbed.client_calls import UnaryCall
from seedbed.client_streams import StreamCall

if TYPE_CHECKING:
    from seedbed.callers import Callers
    from seedbed.client_session import GivenMetadata

Req = TypeVar("Req")
Res = TypeVar("Res")


class _Method(Generic[Req, Res]):
    """One method of a stub."""

    def __init__(
        self,
        callers: Callers,
        path: str,
        serialize: Callable[[Req], bytes] | None,
        deserialize: Callable[[bytes], Res] | None,
    ) -> None:
        self._callers = callers
        self._path = path
        self._serialize: Callable[[Req], bytes] = serialize or _as_it_is
        self._deserialize = deserialize


class _UnaryUnary(_Method[Req, Res], grpc.aio.UnaryUnaryMultiCallable[Req, Res]):
    def __call__(
        self,
        request: Req,
        *,
        timeout: float | None = None,
        metadata: GivenMetadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryCall[Req, Res]:
        if credentials is not None:
            _refuse_credentials()
        callers = self._callers
        call: UnaryCall[Req, Res] = UnaryCall(
            callers.session, callers.caller(), self._path, self._deserialize
        )
        call.start(self._serialize(request), timeout, metadata)
        return call


class _UnaryStream(_Method[Req, Res], grpc.aio.UnaryStreamMultiCallable[Req, Res]):
    def __call__(
        self,
        request: Req,
        *,
        timeout: float | None = None,
        metadata: GivenMetadata = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> StreamCall[Req, Res]:
        if credentials is not None:
            _refuse_credentials()
        callers = self._callers
        call: StreamCall[Req, Res] = StreamCall(
            callers.session, callers.caller(), self._path, self._deserialize
        )
        call.start(self._serialize(request), timeout, metadata)
        return call


class _Refused:
    """A method that streams from the client, which no entity service has."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        _refuse_request_stream(self._path)


if TYPE_CHECKING:

    class _StreamUnary(_Refused, grpc.aio.StreamUnaryMultiCallable[Req, Res]): ...

    class _StreamStream(_Refused, grpc.aio.StreamStreamMultiCallable[Req, Res]): ...

else:
    # grpcio 1.76 has no generic classes of these two.
    class _StreamUnary(_Refused, grpc.aio.StreamUnaryMultiCallable): ...

    class _StreamStream(_Refused, grpc.aio.StreamStreamMultiCallable): ...


class Channel(grpc.aio.Channel):
    """For stubs of entity services of the cluster, and only for them: a client's or an entity's."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    # Stubs also pass `_registered_method`, a hint for grpc's own channels.
    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable[Req, Res]:
        return _UnaryUnary(self._callers, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryStreamMultiCallable[Req, Res]:
        return _UnaryStream(self._callers, method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamUnaryMultiCallable[Req, Res]:
        """Exists for stubs of mixed services; a call raises `NotImplementedError`."""
        return _StreamUnary(method)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Req], bytes] | None = None,
        response_deserializer: Callable[[bytes], Res] | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamStreamMultiCallable[Req, Res]:
        """Exists for stubs of mixed services; a call raises `NotImplementedError`."""
        return _StreamStream(method)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """READY when routes are known; Links come and go by themselves."""
        if self._callers.session.synced.is_set():
            return grpc.ChannelConnectivity.READY
        return grpc.ChannelConnectivity.CONNECTING

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        if self.get_state() is last_observed_state:
            await self._callers.session.changed_from(last_observed_state is READY)

    async def channel_ready(self) -> None:
        """Return when the first routes are known."""
        await self._callers.ready()

    async def close(self, grace: float | None = None) -> None:
        """Does nothing: leaving the `Client` closes it, or the end of the worker."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()


READY = grpc.ChannelConnectivity.READY


def _as_it_is(request: object) -> bytes:
    if not isinstance(request, bytes):
        raise TypeError(f"without a serializer a request is bytes, not {type(request).__name__}")
    return request


def _refuse_credentials() -> NoReturn:
    raise ValueError("a call to an entity takes no credentials of its own; give them to Client")


def _refuse_request_stream(path: str) -> NoReturn:
    raise NotImplementedError(
        f"{path}: entity methods take one request; use a grpc.aio channel to the service itself"
    )
