"""Streams of a routing channel: iterated, read, cancelled, asked, as grpc.aio's are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio

from seedbed.callers import Caller
from seedbed.calls import EntityCall, Failed
from seedbed.client_call import CANCELLED, Call, end
from seedbed.client_outcomes import message_of
from seedbed.stream_flight import StreamFlight
from seedbed.transport import StatusError

if TYPE_CHECKING:
    from seedbed.client_session import ClientSession, GivenMetadata

Req = TypeVar("Req")
Res = TypeVar("Res")


class StreamCall(Call[Req, Res], grpc.aio.UnaryStreamCall[Req, Res]):
    """A call with many items."""

    def __init__(
        self,
        session: ClientSession,
        caller: Caller,
        path: str,
        deserialize: Callable[[bytes], Res] | None,
    ) -> None:
        super().__init__(session, caller, path, deserialize)
        self._flight: StreamFlight | None = None
        self._begun = asyncio.Event()
        self._items: AsyncIterator[Res] | None = None

    def __del__(self) -> None:
        # As in grpc.aio: a stream that nobody holds any more is given up.
        if self._flight is not None:
            self._drop()

    def start(self, request: bytes, timeout: float | None, metadata: GivenMetadata) -> None:
        """Begin (for the channel)."""
        begun = self._begun
        self._pending().add_done_callback(lambda _: begun.set())
        self._deadline_ns = self._caller.deadline_ns(timeout, stream=True)
        self._caller.made(None)
        self._go(request, metadata)

    def __aiter__(self) -> AsyncIterator[Res]:
        if self._items is None:
            self._items = self._read_items()
        return self._items

    async def read(self) -> object | Res:
        """The next item; `grpc.aio.EOF` at a good end."""
        try:
            return await anext(aiter(self))
        except StopAsyncIteration:
            return grpc.aio.EOF

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """There with the first item, or at the end."""
        await self._begun.wait()
        if self._flight is not None:
            await self._flight.first()
            return grpc.aio.Metadata(*self._flight.initial)
        return await super().initial_metadata()

    async def _read_items(self) -> AsyncIterator[Res]:
        try:
            await self._begun.wait()
            if self._flight is not None:
                async for item in self._flight.items():
                    yield message_of(self._deserialize, item)
            outcome = await self._outcome()
        except StatusError:
            outcome = await self._outcome()
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            self._drop()
        if self.cancelled():
            raise asyncio.CancelledError
        if isinstance(outcome, Failed) and outcome.code != 0:
            raise self._caller.error(outcome, self.path, self.call)

    def _begin(self, call: EntityCall) -> None:
        flight = self._flight = self._session.router.open_stream(call)
        # Not a method of the call: the router would keep alive what nobody else holds.
        future = self._pending()
        flight.on_end = lambda outcome: end(future, outcome)
        if flight.ended is not None:
            self._ended(flight.ended)
        self._begun.set()

    def _drop(self) -> None:
        if self._flight is not None:
            self._session.router.drop(self._flight)
            self._flight.finish(CANCELLED)  # wakes its reader
