"""Where calls go: the newest tables, a Link to each owner, and a place to wait for one.

The rules are in `decision`; this is the shell that carries them out. A unary call costs one
future and no task: replies, losses, new tables and deadlines move it on by plain calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Final

from seedbed.calls import EntityCall, Failed, Outcome, Replied
from seedbed.clock import Clock
from seedbed.decision import target
from seedbed.errors import CallError
from seedbed.flights import GRACE_NS, Flight, UnaryFlight
from seedbed.ids import Epoch, Generation, Incarnation
from seedbed.link import Link, LinkLimits
from seedbed.links import Links
from seedbed.parking import ParkingLimits
from seedbed.refusals import Refusals
from seedbed.routing import CHUNK, RouteTable, ShardTable
from seedbed.stream_flight import StreamFlight, StreamHooks
from seedbed.tracing import NO_TRACER, Tracer
from seedbed.transport import Transport
from seedbed.waits import Outlook, Waits

__all__ = ["Outlook", "Router", "RouterLimits"]

GIVE_UP_NS: Final = 1_000_000_000
"""How long the answer of an owner is waited for when a newer table names another."""


@dataclass(frozen=True, slots=True)
class RouterLimits:
    """Everything that a router holds is bounded."""

    parking: ParkingLimits = field(default_factory=ParkingLimits)
    link: LinkLimits = field(default_factory=LinkLimits)


@dataclass(slots=True)
class _Route:
    """A shard's place with the Link to its owner, looked up once for each table."""

    epoch: Epoch
    generation: Generation
    link: Link
    durable: bool


class Router:
    """Carries calls to the owners of their shards. Works while `run` runs.

    `role` is told to workers: `seed` for a seed's router, whose word about epochs counts for more.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        clock: Clock,
        node: str,
        limits: RouterLimits,
        table: RouteTable,
        outlook: Outlook | None,
        random: Random | None = None,
        role: str = "",
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self.node = node
        self.table = table
        self.now_ns = clock.now_ns
        self._ids = count(1)
        self._routes: dict[tuple[str, int], _Route] = {}
        self._refusals = Refusals()
        self._links = Links(
            transport,
            clock=clock,
            limits=limits.link,
            random=random if random is not None else Random(),
            opened=self._link_opened,
            role=role,
        )
        self._unreachable: frozenset[Incarnation] = frozenset()
        self._waits = Waits(limits.parking, now_ns=clock.now_ns, outlook=outlook)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.tracer = tracer

    @property
    def parked(self) -> int:
        """Calls that wait for an owner."""
        return self._waits.parked

    async def run(self) -> None:
        """Be the parent of the Links, until cancelled; whatever is under way then is ended."""
        self._loop = asyncio.get_running_loop()
        self._waits.start(self._loop)
        try:
            await self._links.run()
        finally:
            self._waits.stop()

    def submit(
        self,
        call: EntityCall,
        *,
        repeatable: bool,
        read_only: bool,
        future: asyncio.Future[Replied | Failed] | None = None,
    ) -> UnaryFlight:
        """Start a unary call; its `future` gets its one outcome. `drop` it if nobody waits."""
        if self._loop is None:
            raise RuntimeError("Router.run is not running")
        if future is None:
            future = self._loop.create_future()
        flight = UnaryFlight(self, call, future, repeatable=repeatable, read_only=read_only)
        self.route(flight)
        return flight

    async def unary(
        self, call: EntityCall, *, repeatable: bool, read_only: bool
    ) -> Replied | Failed:
        """The call's one outcome. Cancelling it tells the worker that nobody waits."""
        flight = self.submit(call, repeatable=repeatable, read_only=read_only)
        try:
            return await flight.future
        except asyncio.CancelledError:
            self.drop(flight)
            raise

    def open_stream(self, call: EntityCall) -> StreamFlight:
        """Start a stream; `drop` it when its reader has gone."""
        if self._loop is None:
            raise RuntimeError("Router.run is not running")
        flight = StreamFlight(self, call)
        self.route(flight)
        return flight

    async def stream(
        self, call: EntityCall, hooks: StreamHooks | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The stream's items. Raises `StatusError` at its end, unless that is a good one.

        Iterate it under `contextlib.aclosing`: so the worker learns at once that its reader has
        gone.
        """
        flight = self.open_stream(call)
        try:
            async for item in flight.items_and_metadata(hooks):
                yield item
        finally:
            self.drop(flight)

    def drop(self, flight: Flight) -> None:
        """Its caller has gone: it is not sent any more, and cancelled where it was sent."""
        self._waits.leave(flight)
        if flight.link is not None:
            flight.link.drop(flight)
            flight.link = None
        self.retire(flight)

    def routes_changed(
        self,
        revision: int,
        tables: Iterable[ShardTable],
        *,
        snapshot: bool,
        restored: bool = False,
        unreachable: frozenset[Incarnation],
        without_workers: frozenset[str],
    ) -> None:
        """Take over newer tables, and move on every call that they concern."""
        changed = self.table.apply(revision, tables, snapshot=snapshot, restored=restored)
        others = unreachable != self._unreachable or without_workers != self._waits.without_workers
        gone = self._unreachable | unreachable
        self._unreachable = unreachable
        self._waits.without_workers = without_workers
        if not (changed or others or snapshot):
            return
        self._routes.clear()
        self._refusals.forget_older(self.table)
        patience_ends_ns = self.now_ns() + GIVE_UP_NS
        self._give_up_old_owners(changed, gone, patience_ends_ns)
        owners = {owner.incarnation for table in self.table.tables() for owner in table.owners}
        self._links.close_others(owners, patience_ends_ns)
        chunks = {(table.type, table.chunk) for table in changed}
        for type_, shard in self._waits.shards():
            if others or (type_, shard // CHUNK) in chunks:
                self._unpark(type_, shard)

    def route(self, flight: Flight) -> None:
        """Send a flight, let it wait, or end it."""
        call = flight.call
        route = self._routes.get((call.type, call.shard))
        if route is None or route.link.down:
            route = self._find_route(call)
            if route is None:
                self._park(flight)
                return
        call.epoch = route.epoch
        flight.durable = route.durable
        call.generation = route.generation
        flight.id = next(self._ids)
        flight.sent = False
        if call.traceparent and self.tracer.wants(call.traceparent):
            flight.trace(self.tracer, route.link.address)
        try:
            route.link.send(flight)
        except CallError as error:
            flight.refuse(error)
            return
        flight.link = route.link
        if call.deadline_ns is not None:
            self.watch(flight, call.deadline_ns + GRACE_NS)

    def refused(self, call: EntityCall, outcome: Outcome) -> None:
        """Who was asked is not the owner: the shard's calls wait for another table."""
        self._refusals.note(call, outcome)
        self._routes.pop((call.type, call.shard), None)

    def watch(self, flight: Flight, at_ns: int) -> None:
        """Look at the flight again at this time."""
        self._waits.watch(flight, at_ns)

    def retire(self, flight: Flight) -> None:
        """Its attempt is over: it has no deadline here, and no batch takes it along."""
        if flight.span is not None:
            flight.land(None)
        self._waits.retire(flight)

    def next_due_ns(self) -> int | None:
        """When `tick` has something to do next; None while there is nothing."""
        return self._waits.next_due_ns()

    def tick(self) -> None:
        """Do what is due by the clock now (timers call it; so may the owner of a clock)."""
        self._waits.tick()

    def _park(self, flight: Flight) -> None:
        """Let it wait at the place that its coming gave it: ids rise, and the first one counts."""
        if not flight.came:
            flight.came = next(self._ids)
        self._waits.park(flight)

    def _find_route(self, call: EntityCall) -> _Route | None:
        key = (call.type, call.shard)
        if self._waits.waits_for(*key):
            return None  # nobody overtakes those who wait
        place = self.table.place(*key)
        refused = self._refusals.newest(*key)
        owner = target(place, refused=refused, unreachable=self._unreachable)
        if owner is None or place is None:
            return None
        link = self._links.to(owner)
        if link is None or link.down:
            return None
        route = _Route(place.epoch, place.generation, link, owner.durable)
        self._routes[key] = route
        return route

    def _link_opened(self, incarnation: Incarnation) -> None:
        for type_, shard in self._waits.shards():
            place = self.table.place(type_, shard)
            if place is not None and place.owner and place.owner.incarnation == incarnation:
                self._unpark(type_, shard)

    def _give_up_old_owners(
        self, changed: list[ShardTable], gone: frozenset[Incarnation], patience_ends_ns: int
    ) -> None:
        """An owner answers all that it has before it releases a shard, so its answer is waited
        for; but not if it was lost."""
        types = {table.type for table in changed}
        for incarnation, link in self._links.all():
            lost = incarnation in gone
            for passenger in link.passengers() if types or lost else ():
                call = passenger.call
                if self.table.epoch(call.type, call.shard) > call.epoch:
                    passenger.give_up_at(0 if lost else patience_ends_ns)

    def _unpark(self, type_: str, shard: int) -> None:
        for flight in self._waits.release(type_, shard):
            self.route(flight)
