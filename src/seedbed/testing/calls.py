"""How calls of a test leave: the client's own session and router, and real time as a second limit.

A clock that stands still ends nothing. So that a test which forgot to `advance` does not hang, each
call is also ended when its time-out has passed on the machine's clock.
"""

from __future__ import annotations

import asyncio
from typing import Final

from seedbed.calls import EntityCall, Failed, Replied
from seedbed.client_session import ClientSession, Method
from seedbed.clock import Clock
from seedbed.decision import too_late
from seedbed.errors import CallError
from seedbed.flights import Flight, UnaryFlight
from seedbed.link import LinkLimits
from seedbed.router import Router, RouterLimits
from seedbed.stream_flight import StreamFlight
from seedbed.transport import Transport
from seedbed.v1 import cluster_pb2

LIMITS: Final = RouterLimits(link=LinkLimits(linger_s=0))
"""Nothing lingers: that is for throughput, and would take a test's time."""


class KitRouter(Router):
    """A router whose calls end by real time too."""

    _timers: set[asyncio.TimerHandle]

    async def run(self) -> None:
        self._timers = set()
        try:
            await super().run()
        finally:
            for timer in self._timers:
                timer.cancel()

    def submit(
        self,
        call: EntityCall,
        *,
        repeatable: bool,
        read_only: bool,
        future: asyncio.Future[Replied | Failed] | None = None,
    ) -> UnaryFlight:
        flight = super().submit(call, repeatable=repeatable, read_only=read_only, future=future)
        timer = self._limit(flight)
        if timer is not None:
            flight.future.add_done_callback(lambda _: self._forget(timer))
        return flight

    def open_stream(self, call: EntityCall) -> StreamFlight:
        flight = super().open_stream(call)
        self._limit(flight)
        return flight

    def _limit(self, flight: Flight) -> asyncio.TimerHandle | None:
        deadline_ns = flight.call.deadline_ns
        if deadline_ns is None:
            return None
        left_s = max(0.0, (deadline_ns - self.now_ns()) / 1e9)

        def time_is_up() -> None:
            self._forget(timer)
            sent = flight.sent or bool(flight.losses)
            self.drop(flight)
            error = too_late(sent=sent)
            clock = "the deadline passed in real time: the cluster's clock stands still"
            flight.refuse(CallError(error.reason, f"{error} ({clock} but for advance())"))

        timer = asyncio.get_running_loop().call_later(left_s, time_is_up)
        self._timers.add(timer)
        return timer

    def _forget(self, timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        self._timers.discard(timer)


class KitSession(ClientSession):
    """A client's session that is told its routes, and asks no seed for them."""

    router_class = KitRouter

    def __init__(self, transport: Transport, clock: Clock, node: str = "") -> None:
        super().__init__(transport, (), LIMITS, clock, node=node)

    def method(self, path: str) -> Method:
        """The method of a path; a class that a test left out is its own mistake."""
        try:
            return super().method(path)
        except CallError as error:
            text = f"no class of this cluster has {path}: give its class to cluster()"
            raise CallError(error.reason, text) from None

    async def run(self) -> None:
        """Carry calls, until cancelled."""
        await self.router.run()

    def told(self, update: cluster_pb2.RouteUpdate) -> None:
        """Take over newer routes."""
        self._changed(update)
