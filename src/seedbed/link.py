"""The Link's client side: one to each worker, carrying many calls in few messages.

A Link has two lanes, each one `Exchange` stream on the same connection: the first for everything,
the second only for requests over the size of a batch, so that they do not hold up small ones.
A lane connects when it is first used and from then on again after every loss, until the router
closes the Link. What a lane carries when its stream breaks is lost; `sent` says whether it had
left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final, Protocol

from seedbed.calls import Metadata
from seedbed.clock import Clock
from seedbed.errors import CallError, ProtocolError, Reason
from seedbed.frames import BATCH_BYTES, EXCHANGE, ROLE_KEY, CallOutbox, Carried, parse_replies
from seedbed.retry import backoff_s
from seedbed.transport import Connection, Disconnected, Duplex, StatusError
from seedbed.v1 import link_pb2

log = logging.getLogger(__name__)

LINK_CALLS: Final = 20_000
LINK_BYTES: Final = 256 * 1024 * 1024

OVERLOADED_RETRY_S: Final = 0.1

LINGER_S: Final = 0.001
"""How long a busy Link lets a batch collect when calls come one by one (docs/adr/0007)."""


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """What one Link may carry at a time, and how long a busy one lets a batch collect."""

    calls: int = LINK_CALLS
    bytes: int = LINK_BYTES
    linger_s: float = LINGER_S


class Passenger(Carried, Protocol):
    """What a Link carries, with what the Link tells it. `came` is its first attempt's id (0: this
    is the first), so that they are told of a loss in the order in which they came."""

    came: int

    def replied(self, reply: link_pb2.Reply) -> bool:
        """Take a reply; True if it was the last. Raises `ProtocolError` for a bad one."""
        ...

    def lost(self) -> None:
        """The stream broke, or the Link was closed."""
        ...

    def give_up_at(self, at_ns: int) -> None:
        """Who carries it has lost its shard: wait for the answer until then, and drop it."""
        ...


class Link:
    """Calls to one incarnation of one worker."""

    def __init__(
        self,
        connection: Connection,
        address: str,
        *,
        clock: Clock,
        limits: LinkLimits,
        random: Random,
        opened: Callable[[], None],
        role: str = "",
    ) -> None:
        self.address = address
        self._connection = connection
        self._limits = limits
        self._calls = 0
        self._bytes = 0
        self._closed = False
        self._when_empty: Callable[[], None] | None = None
        metadata: Metadata = ((ROLE_KEY, role),) if role else ()
        lane = partial(_Lane, connection, address, clock, random, opened, metadata, limits.linger_s)
        self._small, self._large = lane(), lane()

    @property
    def down(self) -> bool:
        """The last attempt to connect failed, or the stream broke, and it is not back yet."""
        return self._small.down or self._closed

    def send(self, passenger: Passenger) -> None:
        """Take a call along; raises `CallError` if the Link is full."""
        size = len(passenger.call.request)
        if self._calls >= self._limits.calls:
            raise _full(f"{self._limits.calls} calls")
        if self._bytes + size > self._limits.bytes and self._calls:
            raise _full(f"{self._limits.bytes} bytes")
        self._calls += 1
        self._bytes += size
        (self._small if size <= BATCH_BYTES else self._large).board(passenger)

    def drop(self, passenger: Passenger) -> None:
        """The caller has gone: forget the call, and tell the worker if it has left."""
        size = len(passenger.call.request)
        lane = self._small if size <= BATCH_BYTES else self._large
        if lane.carried.pop(passenger.id, None) is not None:
            self._left(size)
            if passenger.sent:
                lane.outbox.cancel(passenger.id)
                lane.wake.set()

    def credit(self, passenger: Passenger, items: int) -> None:
        """Let the worker send more items of a stream."""
        lane = self._small if len(passenger.call.request) <= BATCH_BYTES else self._large
        if passenger.id in lane.carried:
            lane.outbox.credit(passenger.id, items)
            lane.wake.set()

    def passengers(self) -> list[Passenger]:
        """All that is on the way now, in the order in which it came (a copy)."""
        return _in_order([*self._small.carried.values(), *self._large.carried.values()])

    def when_empty(self, empty: Callable[[], None]) -> None:
        """Call this once, as soon as nothing is on the way (any more)."""
        self._when_empty = empty
        self._tell_if_empty()

    async def run(self) -> None:
        """Carry, until cancelled."""
        self._small.left = self._large.left = self._left
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._small.run())
                group.create_task(self._large.run())
        finally:
            self._closed = True
            self._small.lose_all()
            self._large.lose_all()
            await self._connection.close()

    def _left(self, size: int) -> None:
        self._calls -= 1
        self._bytes -= size
        if self._when_empty is not None:
            self._tell_if_empty()

    def _tell_if_empty(self) -> None:
        if not self._calls and self._when_empty is not None:
            empty, self._when_empty = self._when_empty, None
            empty()


def _in_order(passengers: Iterable[Passenger]) -> list[Passenger]:
    return sorted(passengers, key=lambda one: one.came or one.id)


class _Lane:
    """One Exchange stream after another."""

    __slots__ = (
        "_address",
        "_clock",
        "_connection",
        "_linger_s",
        "_metadata",
        "_opened",
        "_random",
        "carried",
        "down",
        "left",
        "outbox",
        "wake",
    )

    left: Callable[[int], None]

    def __init__(
        self,
        connection: Connection,
        address: str,
        clock: Clock,
        random: Random,
        opened: Callable[[], None],
        metadata: Metadata,
        linger_s: float,
    ) -> None:
        self._connection = connection
        self._address = address
        self._clock = clock
        self._random = random
        self._opened = opened
        self._metadata = metadata
        self._linger_s = linger_s
        self.carried: dict[int, Passenger] = {}
        self.outbox = CallOutbox()
        self.wake = asyncio.Event()
        self.down = False

    def board(self, passenger: Passenger) -> None:
        self.carried[passenger.id] = passenger
        self.outbox.put(passenger)
        self.wake.set()

    async def run(self) -> None:
        await self.wake.wait()
        failures = 0
        while True:
            duplex = self._connection.bidi(EXCHANGE, metadata=self._metadata)
            try:
                await duplex.opened()
                failures = 0
                log.info("link up", extra={"address": self._address})
                self.down = False
                self._opened()
                why = await self._exchange(duplex)
            except (Disconnected, StatusError) as error:
                why = str(error)
            except Exception as error:
                log.exception("link failed", extra={"address": self._address})
                why = type(error).__name__
            finally:
                duplex.cancel()
            if failures == 0:
                log.info("link down", extra={"address": self._address, "why": why})
            self.down = True
            self.lose_all()
            failures += 1
            await asyncio.sleep(backoff_s(failures, self._random))

    def lose_all(self) -> None:
        """Tell all passengers; they may board another Link, or this one again, at once."""
        passengers = _in_order(self.carried.values())
        self.carried.clear()
        self.outbox.clear()
        for passenger in passengers:
            self.left(len(passenger.call.request))
            passenger.lost()

    async def _exchange(self, duplex: Duplex) -> str:
        """Write and read until the stream ends; returns why."""
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write(duplex))
            try:
                return await self._read(duplex)
            finally:
                writer.cancel()

    async def _write(self, duplex: Duplex) -> None:
        wake, outbox, now_ns = self.wake, self.outbox, self._clock.now_ns
        try:
            while True:
                await wake.wait()
                if _is_trickle(waiting=len(outbox), carried=len(self.carried)):
                    await asyncio.sleep(self._linger_s)
                wake.clear()
                while (batch := outbox.take(now_ns())) is not None:
                    await duplex.write(batch)
        except (Disconnected, StatusError):
            duplex.cancel()  # so that the reader, who knows why, returns

    async def _read(self, duplex: Duplex) -> str:
        carried = self.carried
        try:
            while (data := await duplex.read()) is not None:
                for reply in parse_replies(data).replies:
                    id_ = reply.id
                    passenger = carried.get(id_)
                    # None: its caller has gone.
                    if passenger is not None:
                        size = len(passenger.call.request)
                        if passenger.replied(reply):
                            del carried[id_]
                            self.left(size)
        except (Disconnected, StatusError, ProtocolError) as error:
            return str(error)
        return "the worker ended the stream"


def _is_trickle(*, waiting: int, carried: int) -> bool:
    """Others are on the way already, and what waits is few beside them."""
    return carried > 1 and 2 * waiting <= carried


def _full(limit: str) -> CallError:
    return CallError(
        Reason.OVERLOADED,
        f"this router has {limit} under way to the worker, its limit for one Link;"
        " call more slowly, or add workers",
        retry_after_s=OVERLOADED_RETRY_S,
    )
