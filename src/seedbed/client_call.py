"""What calls of a routing channel have in common, which behave as grpc.aio's do.

A call starts when it is made. Its code, details and metadata are there when it has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import grpc
import grpc.aio

from seedbed.callers import Caller
from seedbed.calls import EntityCall, Failed, Replied
from seedbed.client_outcomes import trailing_of
from seedbed.errors import CallError
from seedbed.grpc_codes import code_of_number
from seedbed.status import failed

if TYPE_CHECKING:
    from seedbed.client_session import ClientSession, GivenMetadata, Method

Req = TypeVar("Req")
Res = TypeVar("Res")

Outcome: TypeAlias = Replied | Failed


class Call(Generic[Req, Res]):
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
        end(self._pending(), outcome)

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
        return CANCELLED if future.cancelled() else future.result()


def end(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    """Note the outcome, unless there is one."""
    if not future.done():
        future.set_result(outcome)


CANCELLED = Failed(1, "Locally cancelled by application!")
