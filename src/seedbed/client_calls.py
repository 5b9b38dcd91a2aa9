"""Unary calls of a routing channel: awaited, cancelled, asked, as grpc.aio's are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio

from seedbed.callers import Caller
from seedbed.calls import EntityCall, Failed
from seedbed.client_call import Call, Outcome
from seedbed.client_outcomes import message_of
from seedbed.decision import too_late
from seedbed.flights import UnaryFlight

if TYPE_CHECKING:
    from seedbed.client_session import ClientSession, GivenMetadata

Req = TypeVar("Req")
Res = TypeVar("Res")


class UnaryCall(Call[Req, Res], grpc.aio.UnaryUnaryCall[Req, Res]):
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
