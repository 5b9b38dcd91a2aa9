"""A seed's registration over a memory store, without sockets, and workers that follow a script.

Bytes go in and come out as they would on the wire: the script calls the same function that the
server calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Literal

from seedbed.clock import SystemClock
from seedbed.routing import ShardTable
from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_seed.admin import Admin
from seedbed_seed.attendance import Attendance
from seedbed_seed.cluster_story import ClusterStory
from seedbed_seed.cluster_view import ClusterView
from seedbed_seed.contracts import Contracts
from seedbed_seed.core.coordinator import Coordinator
from seedbed_seed.core.decisions import CoordinatorSettings
from seedbed_seed.driver import Driver
from seedbed_seed.epoch_reports import EpochReports
from seedbed_seed.events import EventLimits, Events
from seedbed_seed.evidence import Budget
from seedbed_seed.joining import Joining
from seedbed_seed.journal_pin import JournalPin
from seedbed_seed.leader_verbs import LeaderVerbs
from seedbed_seed.lost_workers import LostWorkers
from seedbed_seed.member_records import MemberRecords
from seedbed_seed.memory_store import MemoryStore
from seedbed_seed.order_book import OrderBook
from seedbed_seed.order_verbs import OrderLimits, OrderVerbs
from seedbed_seed.placement import Placement
from seedbed_seed.records import Keys, parse_record
from seedbed_seed.registration import Registration, RegistrationSettings
from seedbed_seed.routes import RouteLog
from seedbed_seed.seed_lease import SeedLease
from seedbed_seed.store import (
    Get,
    Put,
)
from tests.unit.seed.scripted import (
    PATIENCE_S,
    ScriptedDialler,
    ScriptedWorker,
    TroubledStore,
)
from tests.unit.seed.seed_network import SeedNetwork


class Desk:
    """One seed (or one of several over one store) at which workers register."""

    def __init__(
        self,
        store: TroubledStore,
        *,
        node: str = "s1",
        ttl_s: int = 1,
        evidence: Literal["durable", "all", "off"] = "durable",
        network: SeedNetwork | None = None,
        load_interval_ns: int = 10_000_000_000,
    ) -> None:
        self.store = store
        self.clock = clock = SystemClock()
        self.keys = Keys("test")
        self.dialler = ScriptedDialler()
        self.events = Events(clock, EventLimits())
        coordinator = Coordinator(
            CoordinatorSettings(ttl_ns=ttl_s * 1_000_000_000, evidence=evidence)
        )
        self.view = ClusterView(
            store=store,
            clock=clock,
            keys=self.keys,
            coordinator=coordinator,
            role_of=lambda type_: "sharding",
            told=self.events.member,
        )
        self.story = ClusterStory(self.view, clock, self.events.tell)
        self.routes = RouteLog(self.view, clock)
        self.records = MemberRecords(store, self.keys, ttl_s / 8)
        self.contracts = Contracts(
            store=store, keys=self.keys, default_shards=16, timeout_s=ttl_s / 8
        )
        member = store_pb2.Member(
            node_id=node,
            incarnation=f"{node}-1",
            role=store_pb2.ROLE_SEED,
            status=store_pb2.MEMBER_STATUS_UP,
            host="127.0.0.1",
            port=4684 if network is None else network.enter(self),
        )
        self.lease = SeedLease(store=store, clock=clock, keys=self.keys, member=member, ttl_s=ttl_s)
        self.placement = Placement(store=store, clock=clock, view=self.view, write_s=ttl_s / 2)
        self.driver = Driver(
            store=store,
            clock=clock,
            view=self.view,
            lease=self.lease,
            node_id=node,
            placement=self.placement,
        )
        self.epochs = EpochReports(
            view=self.view,
            transport=network or SeedNetwork(),
            lead=self.driver.epoch_reported,
            timeout_s=ttl_s / 8,
        )
        self.lost = LostWorkers(
            records=self.records,
            view=self.view,
            dialler=self.dialler,
            budget=Budget(clock, ttl_s),
            clock=clock,
            evidence=evidence != "off",
        )
        self.pin = JournalPin(store, self.keys, ttl_s / 8)
        self.registration = self._registration(node, ttl_s, load_interval_ns)
        self.orders = OrderBook(store, self.keys, ttl_s / 8)
        self.admin = self._admin(node, network or SeedNetwork())
        self._tasks: asyncio.TaskGroup | None = None
        self._workers: list[ScriptedWorker] = []

    def table_of(self, type_: str, chunk: int) -> ShardTable | None:
        return self.view.tables.get((type_, chunk))

    def _registration(self, node: str, ttl_s: int, load_interval_ns: int) -> Registration:
        return Registration(
            view=self.view,
            routes=self.routes,
            joining=Joining(
                records=self.records,
                contracts=self.contracts,
                pin=self.pin,
                dialler=self.dialler,
                ttl_s=ttl_s,
                owners=self.view.owners,
            ),
            attendance=Attendance(
                records=self.records,
                view=self.view,
                clock=self.clock,
                load_interval_ns=load_interval_ns,
                epoch_seen=self.epochs.seen,
            ),
            lost=self.lost,
            clock=self.clock,
            settings=RegistrationSettings(node, ttl_s, 4 << 20),
            events=self.events,
        )

    def _admin(self, node: str, network: SeedNetwork) -> Admin:
        return Admin(
            view=self.view,
            table_of=self.table_of,
            orders=OrderVerbs(self.view, self.orders, self.table_of, OrderLimits()),
            leader=LeaderVerbs(
                view=self.view,
                node_id=node,
                transport=network,
                clock=self.clock,
                table_of=self.table_of,
                leads=lambda: self.driver.leading,
                order=self.driver.moves_ordered,
            ),
            pin=self.pin,
            events=self.events,
        )

    def connect(self, hello: pb.Hello, *, reading: bool = True) -> ScriptedWorker:
        """Open a Register stream that begins with this Hello."""
        assert self._tasks is not None
        worker = ScriptedWorker(hello)
        if reading:
            worker.read_on.set()
        worker.send(pb.WorkerMessage(hello=hello))
        self._workers.append(worker)
        worker.task = self._tasks.create_task(worker.run(self.registration))
        return worker

    async def join(self, hello: pb.Hello) -> tuple[ScriptedWorker, pb.Welcome]:
        """Connect, and await the Welcome."""
        worker = self.connect(hello)
        return worker, (await worker.expect("welcome")).welcome

    async def record(self, node_id: str) -> store_pb2.MemberRecord | None:
        """The worker's record, as the store has it now."""
        reading = await MemoryStore.read(self.store, Get(self.keys.worker(node_id)))
        entries = reading.answers[0]
        return parse_record(entries[0].value) if entries else None

    async def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until this seed's view is such that the condition holds."""
        seen = asyncio.Event()
        self.view.listen(lambda change: seen.set())
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not holds():
                    seen.clear()
                    await seen.wait()
        except TimeoutError:
            raise AssertionError(f"not in {PATIENCE_S} s: {what}") from None

    async def until_status(self, node_id: str, status: store_pb2.MemberStatus.ValueType) -> None:
        def holds() -> bool:
            known = self.view.workers.get(node_id)
            return known is not None and known.record.member.status == status

        await self.until(f"{node_id} has status {status}", holds)

    async def until_gone(self, node_id: str) -> None:
        await self.until(f"{node_id} is gone", lambda: node_id not in self.view.workers)

    async def until_silent(self, node_id: str) -> None:
        def holds() -> bool:
            known = self.view.workers.get(node_id)
            return known is not None and known.record.HasField("silent")

        await self.until(f"{node_id} is marked", holds)

    async def put_table(self, table: store_pb2.AllocationTable) -> int:
        """Write a table as a coordinator would; returns the revision."""
        put = Put(self.keys.table(table.type, table.chunk), table.SerializeToString())
        return (await MemoryStore.write(self.store, put)).revision

    @asynccontextmanager
    async def open(self, *, driving: bool = False) -> AsyncGenerator[None, None]:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            running = [
                tasks.create_task(self.view.run()),
                tasks.create_task(self.registration.run()),
                tasks.create_task(self.epochs.run()),
            ]
            if driving:
                running.append(tasks.create_task(self.driver.run()))
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self.view.reached(0)
                yield
            finally:
                for task in running:
                    task.cancel()
                self._tasks = None
                for worker in self._workers:
                    worker.disconnect()

    @asynccontextmanager
    async def open_driver(self) -> AsyncGenerator[None, None]:
        """Be a member and a candidate, inside `open`."""
        async with asyncio.TaskGroup() as tasks:
            driving = tasks.create_task(self.driver.run())
            try:
                yield
            finally:
                driving.cancel()


@asynccontextmanager
async def desk(
    *,
    ttl_s: int = 1,
    evidence: Literal["durable", "all", "off"] = "durable",
    driving: bool = False,
    load_interval_ns: int = 10_000_000_000,
) -> AsyncGenerator[Desk, None]:
    """One seed over a store of its own."""
    async with TroubledStore() as store:
        one = Desk(store, ttl_s=ttl_s, evidence=evidence, load_interval_ns=load_interval_ns)
        async with one.open(driving=driving):
            yield one


@asynccontextmanager
async def two_desks() -> AsyncGenerator[tuple[Desk, Desk, SeedNetwork]]:
    """A seed that leads, another one that knows it, and how they reach each other."""
    network = SeedNetwork()
    async with TroubledStore() as store:
        leader = Desk(store, node="s1", ttl_s=3, network=network)
        other = Desk(store, node="s2", ttl_s=3, network=network)
        async with other.open(), leader.open(driving=True):
            await other.until("a leader", lambda: other.view.leader() == "s1")
            yield leader, other, network
