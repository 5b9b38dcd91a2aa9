"""A seed's registration over a memory store, without sockets, and workers that follow a script.

Bytes go in and come out as they would on the wire: the script calls the same function that the
server calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from seedbed.calls import Metadata
from seedbed.clock import SystemClock
from seedbed.errors import CallError
from seedbed.routing import ShardTable
from seedbed.status import failed, status_error
from seedbed.transport import (
    Connection,
    Disconnected,
    Duplex,
    Methods,
    Server,
    StatusError,
    Transport,
    UnaryMethod,
)
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
from seedbed_seed.events import Events
from seedbed_seed.evidence import Budget, Dialled, Dialler, Silence
from seedbed_seed.joining import Joining
from seedbed_seed.leader_verbs import LeaderVerbs
from seedbed_seed.lost_workers import LostWorkers
from seedbed_seed.member_records import MemberRecords
from seedbed_seed.memory_store import MemoryStore
from seedbed_seed.order_book import OrderBook
from seedbed_seed.order_verbs import OrderVerbs
from seedbed_seed.placement import Placement
from seedbed_seed.records import Keys, parse_record
from seedbed_seed.registration import Registration, RegistrationSettings
from seedbed_seed.routes import RouteLog
from seedbed_seed.seed_lease import SeedLease
from seedbed_seed.store import (
    Compare,
    Get,
    Outcome,
    Put,
    Reading,
    Write,
    WriteInDoubt,
)
from tests.unit.seed.declared import declaration

PATIENCE_S = 5.0
"""How long a test waits for what must come."""


class TroubledStore(MemoryStore):
    """A memory store that can be stuck, or lose the answers of writes."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck = False
        self.lose_answers = 0
        """So many writes are carried out, and their answers lost."""
        self.swallow = 0
        """So many writes are not carried out, and their answers lost."""
        self.watch_stuck = False

    async def _hang(self) -> None:
        if self.stuck:
            await asyncio.Event().wait()

    async def read(self, *gets: Get, timeout: float | None = None) -> Reading:
        await self._hang()
        return await super().read(*gets, timeout=timeout)

    async def renew(self, lease: int, *, timeout: float | None = None) -> int:
        await self._hang()
        return await super().renew(lease, timeout=timeout)

    async def write(
        self,
        *writes: Write,
        when: Sequence[Compare] = (),
        otherwise: Sequence[Get] = (),
        timeout: float | None = None,
    ) -> Outcome:
        await self._hang()
        if self.swallow:
            self.swallow -= 1
            raise WriteInDoubt("swallowed before")
        outcome = await super().write(*writes, when=when, otherwise=otherwise, timeout=timeout)
        if self.lose_answers:
            self.lose_answers -= 1
            raise WriteInDoubt("swallowed after")
        return outcome


class ScriptedDialler(Dialler):
    """Answers dials as a test says; by default nobody can tell anything."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], Dialled] = {}
        self.dialled: list[tuple[str, int]] = []
        self.script: list[Dialled] = []
        """Answers of the next dials, whatever the address."""

    async def dial(self, host: str, port: int, timeout_s: float) -> Dialled:
        self.dialled.append((host, port))
        if self.script:
            return self.script.pop(0)
        return self.answers.get((host, port), Silence.UNKNOWN)


@dataclass
class ScriptedCall:
    """A call as the transport shows it to a handler."""

    method: str = "/seedbed.v1.Cluster/Register"
    metadata: Metadata = ()
    deadline_ns: int | None = None
    peer: str = "script"
    initial: Metadata = ()
    trailing: Metadata = ()

    def set_initial(self, metadata: Metadata) -> None:
        self.initial = metadata

    def set_trailing(self, metadata: Metadata) -> None:
        self.trailing = metadata


@dataclass
class ScriptedWorker:
    """One Register stream, from the worker's side."""

    hello: pb.Hello
    messages: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue[bytes | None])
    said: asyncio.Queue[pb.SeedMessage] = field(default_factory=asyncio.Queue[pb.SeedMessage])
    heard: list[pb.SeedMessage] = field(default_factory=list[pb.SeedMessage])
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    error: CallError | StatusError | None = None
    read_on: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared, the worker reads nothing."""
    task: asyncio.Task[None] | None = None
    _seq: count[int] = field(default_factory=lambda: count(1))

    def send(self, message: pb.WorkerMessage) -> None:
        self.messages.put_nowait(message.SerializeToString())

    def beat(
        self,
        *,
        released: Sequence[store_pb2.ReleasedShards] = (),
        load: store_pb2.Load | None = None,
    ) -> int:
        seq = next(self._seq)
        beat = pb.Heartbeat(seq=seq, released=released, load=load)
        self.send(pb.WorkerMessage(heartbeat=beat))
        return seq

    async def expect(self, kind: str) -> pb.SeedMessage:
        """The next message of this kind; others before it are skipped (and kept in `heard`)."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    message = await self.said.get()
                    if message.WhichOneof("kind") == kind:
                        return message
        except TimeoutError:
            raise AssertionError(f"no {kind} in {PATIENCE_S} s; heard {self.heard}") from None

    async def ack(self) -> pb.HeartbeatAck:
        """Send a heartbeat and await its answer."""
        seq = self.beat()
        acked = (await self.expect("heartbeat_ack")).heartbeat_ack
        assert acked.seq == seq
        return acked

    async def state(self) -> pb.LeaseState.ValueType:
        return (await self.ack()).state

    async def until_ended(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.ended.wait()

    def disconnect(self) -> None:
        """The connection breaks."""
        if self.task is not None:
            self.task.cancel()

    async def incoming(self) -> AsyncIterator[bytes]:
        while (data := await self.messages.get()) is not None:
            yield data

    async def run(self, registration: Registration) -> None:
        """What the server does with this stream."""
        outgoing = registration.register(ScriptedCall(), self.incoming())
        try:
            async for data in outgoing:
                await self.read_on.wait()
                message = pb.SeedMessage.FromString(data)
                self.heard.append(message)
                self.said.put_nowait(message)
        except (CallError, StatusError) as error:
            self.error = error
        finally:
            self.ended.set()
            assert isinstance(outgoing, AsyncGenerator)
            with suppress(RuntimeError):
                await outgoing.aclose()


class SeedNetwork(Transport):
    """Seeds that reach each other where their records say, without sockets."""

    def __init__(self) -> None:
        self._desks: dict[str, Desk] = {}
        self.asked: list[str] = []
        """Addresses of the calls so far."""
        self.down = False
        """Nobody reaches anybody."""

    def enter(self, desk: Desk) -> int:
        """Give the seed a port of its own."""
        port = 4684 + len(self._desks)
        self._desks[f"127.0.0.1:{port}"] = desk
        return port

    def server(self, *methods: Methods) -> Server:
        raise NotImplementedError

    def connect(self, address: str) -> Connection:
        return _SeedConnection(self, address)

    async def call(
        self, address: str, method: str, request: bytes, metadata: Metadata = ()
    ) -> bytes:
        self.asked.append(address)
        desk = self._desks.get(address)
        if desk is None or self.down:
            raise Disconnected(14, "connection refused", reached=False)
        known = desk.epochs.find(method) or desk.admin.find(method)
        assert isinstance(known, UnaryMethod)
        try:
            return await known.handler(ScriptedCall(method, metadata), request)
        except CallError as error:
            raise status_error(failed(error)) from error


class _SeedConnection(Connection):
    def __init__(self, network: SeedNetwork, address: str) -> None:
        self._network = network
        self._address = address

    async def unary(
        self, method: str, request: bytes, *, timeout: float, metadata: Metadata = ()
    ) -> bytes:
        return await self._network.call(self._address, method, request, metadata)

    def bidi(self, method: str, *, metadata: Metadata = ()) -> Duplex:
        raise NotImplementedError

    async def close(self) -> None:
        pass


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
        self.events = Events(clock)
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
        self.registration = Registration(
            view=self.view,
            routes=self.routes,
            joining=Joining(
                records=self.records,
                contracts=self.contracts,
                dialler=self.dialler,
                ttl_s=ttl_s,
                owners=self.view.owners,
            ),
            attendance=Attendance(
                records=self.records,
                view=self.view,
                clock=clock,
                load_interval_ns=load_interval_ns,
                epoch_seen=self.epochs.seen,
            ),
            lost=self.lost,
            clock=clock,
            settings=RegistrationSettings(node, ttl_s, 4 << 20),
            events=self.events,
        )
        self.orders = OrderBook(store, self.keys, ttl_s / 8)
        self.admin = Admin(
            view=self.view,
            table_of=self.table_of,
            orders=OrderVerbs(self.view, self.orders, self.table_of),
            leader=LeaderVerbs(
                view=self.view,
                node_id=node,
                transport=network or SeedNetwork(),
                clock=clock,
                table_of=self.table_of,
                leads=lambda: self.driver.leading,
                order=self.driver.moves_ordered,
            ),
            events=self.events,
        )
        self._tasks: asyncio.TaskGroup | None = None
        self._workers: list[ScriptedWorker] = []

    def table_of(self, type_: str, chunk: int) -> ShardTable | None:
        return self.view.tables.get((type_, chunk))

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


_ids = count(1)


def hello(
    node: str = "w1",
    incarnation: str = "",
    *,
    port: int = 4000,
    host: str = "127.0.0.1",
    types: Sequence[pb.TypeDeclaration] | None = None,
) -> pb.Hello:
    """A Hello of a new incarnation, with a stream id of its own."""
    number = next(_ids)
    return pb.Hello(
        protocol_min=1,
        protocol_max=1,
        cluster="test",
        node_id=node,
        incarnation=incarnation or f"{node}-{number}",
        stream_id=f"stream-{number}",
        host=host,
        port=port,
        roles=["sharding"],
        app_version="1.0.0",
        types=[declaration()] if types is None else types,
    )


def resuming(first: pb.Hello, welcome: pb.Welcome, secret: bytes | None = None) -> pb.Hello:
    """The same incarnation's Hello on another stream."""
    again = pb.Hello()
    again.CopyFrom(first)
    again.stream_id = f"stream-{next(_ids)}"
    again.resume.lease_id = welcome.lease_id
    again.resume.secret = welcome.secret if secret is None else secret
    return again
