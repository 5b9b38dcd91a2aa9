"""A bidirectional stream to one member: written and read by hand, with one error for its end.

(A stream fed by a generator leaves "asynchronous generator is already running" behind when it is
cancelled.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Generic

import grpc.aio

from seedbed_seed.etcd.calls import Answer, Method, Request, being_cancelled
from seedbed_seed.etcd.channels import HAS_LEADER, Channels, Endpoint


class StreamBrokenError(Exception):
    """The stream ended; the text says why."""


class Stream(Generic[Request, Answer]):
    """The two directions of one stream."""

    def __init__(self, call: grpc.aio.StreamStreamCall[Request, Answer]) -> None:
        self._call = call

    async def send(self, request: Request) -> None:
        """Write one message; raises `StreamBrokenError` if the stream has ended."""
        try:
            await self._call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise StreamBrokenError(str(error)) from error

    async def receive(self) -> Answer:
        """Read one message; raises `StreamBrokenError` if the stream has ended."""
        try:
            answer = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise StreamBrokenError(f"{error.code().name}: {error.details()}") from error
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            raise StreamBrokenError("its channel was closed") from None
        if answer is grpc.aio.EOF:
            raise StreamBrokenError("ended by etcd")
        return answer  # type: ignore[return-value]  # the stubs type EOF as object


@asynccontextmanager
async def open_stream(
    channels: Channels, endpoint: Endpoint, method: Method[Request, Answer]
) -> AsyncGenerator[Stream[Request, Answer], None]:
    """Open a stream for the length of a scope; an endpoint on which it breaks is left.

    A `TimeoutError` of the body says that the member was silent: it is left too.
    """
    with endpoint.call() as channel:
        stub: grpc.aio.StreamStreamMultiCallable[Request, Answer] = channel.stream_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.answer.FromString,
        )
        call = stub(metadata=HAS_LEADER)
        try:
            yield Stream(call)
        except (StreamBrokenError, TimeoutError):
            channels.failed(endpoint)
            raise
        finally:
            call.cancel()
