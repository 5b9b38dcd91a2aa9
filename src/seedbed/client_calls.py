"""Calls of a routing channel that behave as grpc.aio's do: awaited, iterated, cancelled, asked.

A call starts when it is made. Its code, details and metadata are there when it has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import grpc
import grpc.aio

from seedbed.callers import Caller
from seedbed.calls import EntityCall, Failed, Replied
from seedbed.client_outcomes import message_of, trailing_of
from seedbed.decision import too_late
from seedbed.errors import CallError
from seedbed.flights import UnaryFlight
from seedbed.grpc_codes import code_of_number
from seedbed.status import failed
from seedbed.stream_flight import StreamFlight
from seedbed.transport import StatusError

if TYPE_CHECKING:
    from seedbed.client_session import ClientSession, GivenMetadata, Method

Req = TypeVar("Req")
Res = TypeVar("Res")

Outcome: TypeAlias = Replied | Failed


class _Call(Generic[Req, Res]):
    """What both kinds of call have: a beginning that may wait for routes, and one outcome."""

    def __init__(
        self,
        session: ClientSession,
        caller: Caller,
        path: str,
        deserialize: Callable[[bytes], Res] | None,
    ) -> None:
        self._session = session
        self._caller = caller
        self._deserialize = deserialize
        self._future: asyncio.Future[Outcome] | None = None
        self._deadline_ns: int | None = None
        self._waiting: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._method: Method | None = None
        self.path = path
        self.call: EntityCall | None = None
        """What goes over the Link; from when there are routes."""

    def _begin(self, call: EntityCall) -> None:
        """Hand the call to the router."""
        raise NotImplementedError

    def _drop(self) -> None:
        """Take the call back from the router, if it is there."""
        raise NotImplementedError

    def _go(self, request: bytes, metadata: GivenMetadata) -> None:
        session = self._session
        try:
            if not session.synced.is_set():
                self._wait(request, metadata)
                return
            self._method = method = session.method(self.path)
            self.call = call = session.address(method, request, self._deadline_ns, metadata)
            self._caller.prepare(call)
        except CallError as error:
            self._ended(failed(error))
            return
        if self._future is None or not self._future.done():
            self._begin(call)

    def _wait(self, request: bytes, metadata: GivenMetadata) -> None:
        """Until the first routes are there, or the deadline is. Raises `CallError`."""
        session = self._session
        self._pending()

        def routes_came() -> None:
            self._waiting = None
            self._stop_timer()
            self._go(request, metadata)

        session.when_synced(routes_came)
        self._waiting = routes_came
        self._end_at_deadline(session.not_synced)

    def _end_at_deadline(self, error: Callable[[], CallError]) -> None:
        """While the router does not have the call, and so does not watch its deadline."""
        if self._deadline_ns is None:
            return

        def late() -> None:
            self._stop_waiting()
            self._ended(failed(error()))

        left_s = (self._deadline_ns - self._session.clock.now_ns()) / 1e9
        self._timer = asyncio.get_running_loop().call_later(max(0.0, left_s), late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_waiting(self) -> None:
        self._stop_timer()
        if self._waiting is not None:
            self._caller.forget(self._waiting)
            self._waiting = None

    def _pending(self) -> asyncio.Future[Outcome]:
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        return self._future

    def _ended(self, outcome: Outcome) -> None:
        _end(self._pending(), outcome)

    def cancel(self) -> bool:
        """Give the call up; the worker is told."""
        if not self._pending().cancel():
            return False
        self._stop_waiting()
        self._drop()
        return True

    def cancelled(self) -> bool:
        return self._pending().cancelled()

    def done(self) -> bool:
        return self._pending().done()

    def time_remaining(self) -> float | None:
        if self._deadline_ns is None:
            return None
        return max(0.0, (self._deadline_ns - self._session.clock.now_ns()) / 1e9)

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        """Call this with the call when it has ended."""
        self._pending().add_done_callback(lambda _: callback(self))

    async def initial_metadata(self) -> grpc.aio.Metadata:
        outcome = await self._outcome()
        return grpc.aio.Metadata(*outcome.initial)

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata(*trailing_of(await self._outcome()))

    async def code(self) -> grpc.StatusCode:
        outcome = await self._outcome()
        return code_of_number(outcome.code) if isinstance(outcome, Failed) else grpc.StatusCode.OK

    async def details(self) -> str:
        outcome = await self._outcome()
        return outcome.message if isinstance(outcome, Failed) else ""

    async def wait_for_connection(self) -> None:
        """Return when routes are known: a call has no connection of its own."""
        await self._session.synced.wait()

    async def _outcome(self) -> Outcome:
        """The outcome, also of a cancelled call."""
        future = self._pending()
        if not future.done():
            # Not the future itself: whoever asks for the code does not cancel the call.
            await asyncio.wait([future])
        return _CANCELLED if future.cancelled() else future.result()


class UnaryCall(_Call[Req, Res], grpc.aio.UnaryUnaryCall[Req, Res]):
    """A call with one reply."""

    def __init__(
        self,
        session: ClientSession,
        caller: Caller,
        path: str,
        deserialize: Callable[[bytes], Res] | None,
    ) -> None:
        super().__init__(session, caller, path, deserialize)
        self._flight: UnaryFlight | None = None
        self.asked = False
        """Somebody has asked what becomes of it."""

    def start(self, request: bytes, timeout: float | None, metadata: GivenMetadata) -> None:
        """Begin (for the channel)."""
        self._deadline_ns = self._caller.deadline_ns(timeout, stream=False)
        self._caller.made(self)
        self._go(request, metadata)

    def leave(self) -> None:
        """Go to the router (its caller lets it), unless it has ended."""
        self._stop_timer()
        method, call = self._method, self.call
        if method is None or call is None or (self._future is not None and self._future.done()):
            return
        self._flight = self._session.router.submit(
            call,
            repeatable=method.contract.repeatable,
            read_only=method.contract.read_only,
            future=self._future,
        )
        self._future = self._flight.future

    def when_ended(self, ended: Callable[[], None]) -> None:
        """Call this at the end, without counting as somebody who asks."""
        self._pending().add_done_callback(lambda _: ended())

    def __await__(self) -> Generator[None, None, Res]:
        self.asked = True
        try:
            outcome = yield from self._pending().__await__()
        except asyncio.CancelledError:
            # Who cancels the task that waits has cancelled the future already.
            self._stop_waiting()
            self._drop()
            raise
        if isinstance(outcome, Failed):
            raise self._caller.error(outcome, self.path, self.call)
        return message_of(self._deserialize, outcome.response)

    def cancel(self) -> bool:
        """Give the call up; the worker is told."""
        self.asked = True
        return super().cancel()

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        """Call this with the call when it has ended."""
        self.asked = True
        super().add_done_callback(callback)

    async def _outcome(self) -> Outcome:
        self.asked = True
        return await super()._outcome()

    def _begin(self, call: EntityCall) -> None:
        if self._caller.lets(self):
            self.leave()
        else:
            self._pending()
            self._end_at_deadline(lambda: too_late(sent=False))

    def _drop(self) -> None:
        if self._flight is not None:
            self._session.router.drop(self._flight)


class StreamCall(_Call[Req, Res], grpc.aio.UnaryStreamCall[Req, Res]):
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
        flight.on_end = lambda outcome: _end(future, outcome)
        if flight.ended is not None:
            self._ended(flight.ended)
        self._begun.set()

    def _drop(self) -> None:
        if self._flight is not None:
            self._session.router.drop(self._flight)
            self._flight.finish(_CANCELLED)  # wakes its reader


def _end(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)


_CANCELLED = Failed(1, "Locally cancelled by application!")
