"""A host with a region, a lease and a clock that stands still, for tests that run entities."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import grpc
from probe.v1 import probe_pb2 as pb
from probe.v1 import probe_pb2_grpc as rpc

from seedbed import Abort, Entity, ServicerContext
from seedbed.calls import EntityCall, Failed, NotHere, Replied
from seedbed.entity import AnyEntity
from seedbed.errors import Reason
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.routing import Owner, ShardTable
from seedbed.sharding import shard_of
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.region import Region
from seedbed_worker.entity_store import EntityStore
from seedbed_worker.host import Host
from seedbed_worker.jobs import Answer, Job, nobody
from seedbed_worker.loader import host_class
from seedbed_worker.runtime import HostLimits
from seedbed_worker.streams import StreamCall

SHARDS = 16
SECOND = 1_000_000_000
TTL_NS = 5 * SECOND
WAIT_S = 5.0
ME = Incarnation("me")


class FakeClock:
    """Time moves only by `advance`."""

    def __init__(self) -> None:
        self.now = 1000 * SECOND

    def now_ns(self) -> int:
        return self.now

    def wall_ms(self) -> int:
        return self.now // 1_000_000 + 1_700_000_000_000

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


class NoMetrics:
    """Counts answers by method."""

    def __init__(self) -> None:
        self.codes: dict[str, list[int]] = {}
        self.took_ns: dict[str, list[int]] = {}

    def calls(self, type_: str, method: str) -> Counter:
        return Counter(self.codes.setdefault(method, []), self.took_ns.setdefault(method, []))


class Counter:
    def __init__(self, codes: list[int], took_ns: list[int]) -> None:
        self._codes = codes
        self._took_ns = took_ns

    def observe(self, code: int, took_ns: int) -> None:
        self._codes.append(code)
        self._took_ns.append(took_ns)

    def ended(self, code: int) -> None:
        self._codes.append(code)


@dataclass
class Total:
    value: int = 0


class Gates:
    """Places where turns wait until the test lets them go on."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Event] = {}
        self._then: dict[str, list[Callable[[], None]]] = {}
        self.reached: dict[str, asyncio.Semaphore] = {}

    def clear(self) -> None:
        self._open.clear()
        self._then.clear()
        self.reached.clear()

    def _gate(self, name: str) -> asyncio.Event:
        self.reached.setdefault(name, asyncio.Semaphore(0))
        return self._open.setdefault(name, asyncio.Event())

    async def wait(self, name: str) -> None:
        gate = self._gate(name)
        self.reached[name].release()
        await gate.wait()

    def then(self, name: str, do: Callable[[], None]) -> None:
        """Do this when the gate is open: what stands there is no turn."""
        gate = self._gate(name)
        self.reached[name].release()
        if gate.is_set():
            do()
        else:
            self._then.setdefault(name, []).append(do)

    async def reach(self, name: str) -> None:
        """Wait until one more turn stands at the gate."""
        self._gate(name)
        await asyncio.wait_for(self.reached[name].acquire(), WAIT_S)

    def open(self, name: str) -> None:
        self._gate(name).set()
        for do in self._then.pop(name, ()):
            do()


GATES = Gates()
LOG: list[str] = []


class Probe(Entity[Total], rpc.ProbeServicer, durable=False):
    """The entity most tests run."""

    async def Write(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        LOG.append(f"begin {self.key} {request.amount}")
        if request.gate:
            await GATES.wait(request.gate)
        self.state.value += request.amount
        self.save()
        LOG.append(f"end {self.key} {request.amount}")
        return self.answer()

    async def Read(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        if request.gate:
            await GATES.wait(request.gate)
        return self.answer()

    async def Act(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        return await act(self, request, context)

    async def ReadAct(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        return await act(self, request, context)

    async def Watch(self, request: pb.Request, context: ServicerContext) -> AsyncIterator[pb.Reply]:
        try:
            async for _ in self.changes(request.after):
                if request.gate:
                    await GATES.wait(request.gate)
                yield self.answer()
        finally:
            LOG.append(f"watch of {self.key} ended")

    def answer(self) -> pb.Reply:
        return pb.Reply(total=self.state.value, seq=self.seq)


async def act(self: Probe, request: pb.Request, context: ServicerContext) -> pb.Reply:
    """Do what the request's `how` says."""
    match request.how:
        case "abort":
            self.state.value += request.amount
            self.save()
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such", (("why", "because"),))
        case "abort and go on":
            try:
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such")
            except grpc.aio.AbortError:
                self.save()
        case "Abort":
            self.save()
            raise Abort(grpc.StatusCode.FAILED_PRECONDITION, "not so", pb.Reply(text="detail"))
        case "raise":
            self.state.value += request.amount
            self.save()
            raise ZeroDivisionError("secret")
        case "exit":
            raise SystemExit(3)
        case "set_code":
            self.state.value += request.amount
            self.save()
            context.set_code(grpc.StatusCode.PERMISSION_DENIED)
            context.set_details("wrong password")
        case "wrong type":
            return "no reply"  # type: ignore[return-value] # what the test is about
        case "too large":
            return pb.Reply(text="x" * 2000)
        case "metadata":
            await context.send_initial_metadata((("first", "1"),))
            context.set_trailing_metadata((("last", "2"),))
            metadata = context.invocation_metadata()
            assert metadata is not None
            return pb.Reply(text=",".join(f"{name}={value!r}" for name, value in metadata))
        case "turn":
            turn = self.turn
            assert turn is self.turn
            return pb.Reply(text=repr(turn))
        case "passivate":
            self.passivate()
        case "stray":
            LOG.append("stray started")
            STRAYS.append(asyncio.get_running_loop().create_task(stray(self)))
        case "save":
            self.save()
        case "changes":
            self.changes()
        case "long poll":
            async for seq in self.changes(request.after):
                if seq > request.after:
                    break
        case other:
            raise AssertionError(other)
    return self.answer()


STRAYS: list[asyncio.Task[str]] = []


async def stray(entity: Probe) -> str:
    """Outlive the turn that started it."""
    await GATES.wait("stray")
    try:
        entity.save()
    except RuntimeError as error:
        return str(error)
    return "no error"


class World:
    """A running host, and what surrounds it."""

    def __init__(self, clock: FakeClock, region: Region, lease: Lease, host: Host) -> None:
        self.clock = clock
        self.region = region
        self.lease = lease
        self.host = host
        self.metrics = NoMetrics()
        self.generation = 1
        self.seq = 1
        self.calls = 0
        self.epochs_seen: list[tuple[str, int, int]] = []

    def call(
        self,
        method: str,
        key: str = "a",
        *,
        amount: int = 0,
        gate: str = "",
        how: str = "",
        after: int = -1,
        deadline_s: float | None = 3600.0,
        request_id: str = "",
    ) -> EntityCall:
        """A call under this id; empty: under one that no other call has."""
        self.calls += 1
        request = pb.Request(id=key, amount=amount, gate=gate, how=how, after=after)
        return EntityCall(
            method=f"/probe.v1.Probe/{method}",
            type="probe",
            key=key,
            shard=shard_of(key.encode(), SHARDS),
            request=request.SerializeToString(),
            deadline_ns=None if deadline_s is None else self.clock.now + int(deadline_s * SECOND),
            request_id=request_id or f"id-{self.calls}",
            caller="spiffe://x",
        )

    def start(self, call: EntityCall) -> Pending:
        """Start a unary call; await its `answer`."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        return Pending(answer, self.host.submit(call, answer.set_result))

    async def run(self, call: EntityCall) -> Answer:
        return await self.start(call).answer()

    async def write(self, key: str = "a", amount: int = 1) -> pb.Reply:
        return reply(await self.run(self.call("Write", key, amount=amount)))

    async def read(self, key: str = "a") -> pb.Reply:
        return reply(await self.run(self.call("Read", key)))

    def watch(self, call: EntityCall, credit: int = 100) -> Watching:
        return Watching(self, call, credit)

    def renew(self) -> None:
        """A heartbeat is acknowledged, a moment later."""
        self.clock.advance(0.001)
        self.seq += 1
        self.lease.sent(self.seq, self.clock.now)
        assert self.lease.renewed(self.seq, TTL_NS, self.clock.now)

    def place(self, owner: str = "me") -> None:
        """A newer table gives all shards to an owner."""
        self.generation += 1
        self.region.observe([table(self.generation, owner)], self.clock.now_ns())

    def rejoin(self, name: str) -> None:
        """Serve as another incarnation, to which the newest table gives all shards."""
        self.region.begin(Incarnation(name))
        self.lease = new_lease(self.clock, name)
        self.place(name)
        self.host.begin(self.lease)


async def unary(host: Host, call: EntityCall) -> Answer:
    """Run a unary call as a server does, which waits only if the answer is not there at once."""
    job = host.submit(call, nobody)
    if job is None:
        return NotHere(host.rt.region.generation(call.type, call.shard))
    return job.answer or await host.answer_of(job)


class Pending:
    """A call that was started."""

    def __init__(self, answer: asyncio.Future[Answer], job: Job | None) -> None:
        self.future = answer
        self.job = job

    async def answer(self) -> Answer:
        return await asyncio.wait_for(asyncio.shield(self.future), WAIT_S)

    @property
    def done(self) -> bool:
        return self.future.done()


class Watching:
    """An open stream and what came of it."""

    def __init__(self, world: World, call: EntityCall, credit: int) -> None:
        self._items: asyncio.Queue[Replied] = asyncio.Queue()
        self._end: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        job = world.host.open(call, self._items.put_nowait, self._end.set_result, credit)
        assert isinstance(job, StreamCall)
        self.job = job

    async def item(self) -> pb.Reply:
        item = await asyncio.wait_for(self._items.get(), WAIT_S)
        return pb.Reply.FromString(item.response)

    @property
    def waiting(self) -> int:
        return self._items.qsize()

    @property
    def ended(self) -> bool:
        return self._end.done()

    async def end(self) -> Answer:
        return await asyncio.wait_for(asyncio.shield(self._end), WAIT_S)


def table(generation: int, owner: str) -> ShardTable:
    """All shards of the probe with one owner."""
    return ShardTable(
        type="probe",
        chunk=0,
        shard_count=SHARDS,
        generation=Generation(generation),
        owners=(Owner(NodeId(owner), Incarnation(owner), "127.0.0.1", 1),),
        owner=(1,) * SHARDS,
        epoch=(Epoch(generation),) * SHARDS,
    )


def new_lease(clock: FakeClock, name: str = "me", ttl_ns: int = TTL_NS) -> Lease:
    lease = Lease(Incarnation(name), ttl_ns, SECOND // 4)
    lease.sent(1, clock.now)
    assert lease.renewed(1, ttl_ns, clock.now)
    return lease


@asynccontextmanager
async def world(
    *classes: type[AnyEntity],
    limits: HostLimits | None = None,
    store: EntityStore | None = None,
    region: Region | None = None,
) -> AsyncGenerator[World]:
    """A host that runs and owns everything."""
    LOG.clear()
    STRAYS.clear()
    GATES.clear()
    clock, region = FakeClock(), region or Region()
    region.begin(ME)
    region.observe([table(1, "me")], clock.now_ns())
    lease = new_lease(clock)
    metrics = NoMetrics()
    seen: list[tuple[str, int, int]] = []
    host = Host(
        hosted=[host_class(cls) for cls in classes or (Probe,)],
        region=region,
        clock=clock,
        limits=replace(limits or HostLimits(max_message_bytes=1000)),
        node_id="w-1",
        metrics=metrics,
        epoch_seen=lambda type_, shard, epoch: seen.append((type_, shard, epoch)),
        store=store,
    )
    made = World(clock, region, lease, host)
    made.metrics, made.epochs_seen = metrics, seen
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(host.run())
        await asyncio.sleep(0)
        host.begin(lease)
        yield made
        running.cancel()


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


def reply(answer: Answer) -> pb.Reply:
    assert isinstance(answer, Replied), answer
    return pb.Reply.FromString(answer.response)


def refused(answer: Answer) -> Failed:
    assert isinstance(answer, Failed), answer
    return answer


def reason(answer: Answer) -> Reason | None:
    return refused(answer).reason


def not_here(answer: Answer) -> bool:
    return isinstance(answer, NotHere)
