"""A stream on its way through a router: its items, its credit, and how it ends."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Final, Protocol

from seedbed.calls import EntityCall, Failed, Lost, Metadata, Outcome, Replied
from seedbed.decision import waits_for_table
from seedbed.errors import CallError, ProtocolError, Reason
from seedbed.flights import NEVER, Desk, Flight
from seedbed.frames import STREAM_CREDIT, metadata_from_wire, reply_from_wire
from seedbed.status import failed, status_error
from seedbed.v1 import link_pb2

TOP_UP: Final = STREAM_CREDIT // 2
"""Credit goes back in portions: a message for each item would double the traffic."""

READER_PATIENCE_NS: Final = 30_000_000_000
"""A reader that takes nothing for this long, while items wait, is ended."""

_MOVED: Final = "the entity of this stream has moved; open the stream again"


class StreamHooks(Protocol):
    """Where a stream's metadata goes (a `ServerCall` is one)."""

    def set_initial(self, metadata: Metadata) -> None:
        """Called before the first item."""
        ...

    def set_trailing(self, metadata: Metadata) -> None:
        """Called at a good end (at a bad one it is in the error)."""
        ...


class StreamFlight(Flight):
    """A call with many items. Its reader holds at most its credit of them."""

    __slots__ = (
        "_consumed",
        "_ended",
        "_initial",
        "_items",
        "_patient_until_ns",
        "_waiters",
        "on_end",
    )

    def __init__(self, desk: Desk, call: EntityCall) -> None:
        # A stream is a read-only turn between two items, so it may begin a second time.
        super().__init__(desk, call, repeatable=True, read_only=True, credit=STREAM_CREDIT)
        self._items: deque[bytes] = deque()
        self._ended: Replied | Failed | None = None
        self._initial: Metadata | None = None
        self._consumed = 0
        self._patient_until_ns = 0
        self._waiters: list[asyncio.Future[None]] = []
        self.on_end: Callable[[Replied | Failed], None] | None = None

    @property
    def initial(self) -> Metadata:
        """Initial metadata; there when the first item is."""
        return self._initial or ()

    @property
    def ended(self) -> Replied | Failed | None:
        """How the stream ended; there when `items` has."""
        return self._ended

    @property
    def begun(self) -> bool:
        """The first item has come, so that the stream cannot begin again unseen."""
        return self._initial is not None

    def replied(self, reply: link_pb2.Reply) -> bool:
        outcome = reply_from_wire(reply)
        if not isinstance(outcome, bytes):
            self.arrived(outcome)
            return True
        if reply.epoch < self.call.epoch:
            self.lost()
            return True
        if len(self._items) >= STREAM_CREDIT:
            raise ProtocolError(f"more items of {self.call.method} came than there was credit for")
        if self._initial is None:
            self._initial = metadata_from_wire(reply.initial_metadata)
        self._items.append(outcome)
        if len(self._items) == STREAM_CREDIT:
            self._patient_until_ns = self.desk.now_ns() + READER_PATIENCE_NS
            deadline_ns = self.call.deadline_ns or NEVER
            self.desk.watch(self, min(self._patient_until_ns, deadline_ns, self.give_up_ns))
        self._wake()
        return False

    def arrived(self, outcome: Outcome) -> None:
        if self.begun and (isinstance(outcome, Lost) or waits_for_table(outcome)):
            # The client opens it again, with its cursor.
            self.link = None
            self.land(outcome)
            self.finish(failed(CallError(Reason.MOVING, _MOVED, retry_after_s=0.1), started=True))
            return
        super().arrived(outcome)

    def finish(self, outcome: Replied | Failed) -> None:
        if self.span is not None:
            self.land(outcome)
        self.desk.retire(self)
        if self._ended is None:
            self._ended = outcome
            self._wake()
            if self.on_end is not None:
                self.on_end(outcome)

    def stalled(self, now_ns: int) -> bool:
        """The reader's patience is over, as seen from the entity."""
        return len(self._items) == STREAM_CREDIT and now_ns >= self._patient_until_ns > 0

    async def items(self) -> AsyncGenerator[bytes, None]:
        """The items; raises `StatusError` at the end unless it is a good one."""
        while True:
            while self._items:
                item = self._items.popleft()
                self._give_credit()
                yield item
            if self._ended is not None:
                break
            await self._news()
        if isinstance(self._ended, Failed) and self._ended.code != 0:
            raise status_error(self._ended)

    async def items_and_metadata(self, hooks: StreamHooks | None) -> AsyncGenerator[bytes, None]:
        """The same; metadata goes to the hooks, initial before the first item."""
        first = True
        async for item in self.items():
            if first and hooks is not None and self.initial:
                hooks.set_initial(self.initial)
            first = False
            yield item
        if hooks is not None and self.ended is not None:
            if first and self.ended.initial:
                hooks.set_initial(self.ended.initial)
            if self.ended.trailing:
                hooks.set_trailing(self.ended.trailing)

    async def first(self) -> None:
        """Return when the first item is there, or the end."""
        while not self.begun and self._ended is None:
            await self._news()

    async def _news(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _give_credit(self) -> None:
        self._patient_until_ns = 0
        self._consumed += 1
        if self._consumed >= TOP_UP and self.link is not None:
            self.link.credit(self, self._consumed)
            self._consumed = 0

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
