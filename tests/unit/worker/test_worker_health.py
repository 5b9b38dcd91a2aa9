"""What a worker says about its health, and its load."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from grpc_health.v1 import health_pb2

from seedbed.ids import Epoch, Incarnation
from seedbed.service.loop_lag import LoopLag
from seedbed.service.metrics import Calls
from seedbed.transport import ServerCall, UnaryMethod
from seedbed_worker.cells import Shard
from seedbed_worker.core.lease import Lease
from seedbed_worker.health import WorkerHealth
from seedbed_worker.load_meter import HOTTEST, LoadMeter

SECOND = 1_000_000_000


@dataclass
class FakeClock:
    now: int = 100 * SECOND

    def now_ns(self) -> int:
        return self.now

    def wall_ms(self) -> int:
        return self.now // 1_000_000


class NoCall:
    """Health looks at the request alone."""

    method = ""
    metadata = ()
    deadline_ns = None
    peer = ""

    def set_initial(self, metadata: object) -> None: ...

    def set_trailing(self, metadata: object) -> None: ...


@dataclass
class Facts:
    """A worker that is ready, and its health."""

    clock: FakeClock = field(default_factory=FakeClock)
    problem: str = ""
    tables: bool = True
    up: bool = True
    skew_ms: int = 0

    def __post_init__(self) -> None:
        self.lag = LoopLag(self.clock)
        self.health = WorkerHealth(
            clock=self.clock, lag=self.lag, loop_stall_limit_s=30, services=["demo.Thermostat"]
        )
        self.lease = Lease(Incarnation("i"), 5 * SECOND, SECOND)
        self.lease.sent(1, self.clock.now)
        self.lease.renewed(1, 5 * SECOND, self.clock.now)

    def follow(self) -> WorkerHealth:
        self.health.follow(
            lease=lambda: self.lease,
            problem=lambda: self.problem,
            tables_loaded=lambda: self.tables,
            may_be_given=lambda: self.up,
            skew_ms=lambda: self.skew_ms,
        )
        self.health.refresh()
        return self.health

    def wrong(self) -> set[str]:
        return {name for name, why in self.health.ready().items() if why is not None}


async def serving(health: WorkerHealth, service: str) -> bool:
    method = health.grpc.find("/grpc.health.v1.Health/Check")
    assert isinstance(method, UnaryMethod)
    call: ServerCall = NoCall()
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    reply = health_pb2.HealthCheckResponse.FromString(await method.handler(call, request))
    return reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_before_it_registers_a_worker_is_alive_and_not_ready() -> None:
    facts = Facts()
    assert await serving(facts.health, "liveness")
    assert not await serving(facts.health, "")
    assert {"registration", "lease", "tables", "member"} <= facts.wrong()


async def test_a_member_is_ready_and_so_are_its_services() -> None:
    facts = Facts()
    health = facts.follow()
    assert not facts.wrong()
    for service in ("", "readiness", "demo.Thermostat"):
        assert await serving(health, service)
    async with asyncio.timeout(1):
        await health.until_ready()


@pytest.mark.parametrize("cause", ["registration", "lease", "tables", "member", "clock", "drain"])
async def test_each_check_alone_makes_it_not_ready(cause: str) -> None:
    facts = Facts()
    health = facts.follow()
    match cause:
        case "registration":
            facts.problem = "NAME_TAKEN: another w answers"
        case "lease":
            facts.clock.now += 4 * SECOND
            facts.lag.beat()
        case "tables":
            facts.tables = False
        case "member":
            facts.up = False
        case "clock":
            facts.skew_ms = -31_000
        case _:
            health.draining = True
    health.refresh()
    assert facts.wrong() == {cause}
    assert not await serving(health, "demo.Thermostat")
    assert await serving(health, "liveness")


async def test_a_refusal_of_its_own_is_shown() -> None:
    facts = Facts()
    facts.health.refusal = "INCOMPATIBLE: x.py:1"
    assert facts.health.ready()["registration"] == "INCOMPATIBLE: x.py:1"


async def test_a_loop_that_stands_still_is_not_alive() -> None:
    facts = Facts()
    facts.clock.now += 31 * SECOND
    assert facts.health.alive() == {"loop": "stands still for 30.9 s"}
    facts.lag.beat()
    assert facts.health.alive() == {"loop": None}


def test_the_load_is_counted_since_the_last_heartbeat() -> None:
    clock = FakeClock()
    calls = [Calls(), Calls()]
    meter = LoadMeter(clock, calls, lambda: 7, list)
    calls[0].observe(0, 1)
    calls[1].ended(14)
    clock.now += 2 * SECOND
    assert meter.read().calls_per_s == 1.0
    clock.now += SECOND
    assert meter.read().calls_per_s == 0.0
    assert meter.read().active_entities == 7


def test_the_busiest_shards_are_named_with_their_rates() -> None:
    clock = FakeClock()
    lease = Lease(Incarnation("me"), SECOND, 0)
    shards = [("t", Shard(number, Epoch(1), lease)) for number in range(HOTTEST + 2)]
    meter = LoadMeter(clock, [], lambda: 0, lambda: shards)
    for _, shard in shards[1:]:
        shard.calls += 1 + shard.number
    clock.now += 2 * SECOND
    hottest = meter.read().hottest
    assert hottest[0] == ("t", HOTTEST + 1, (HOTTEST + 2) / 2)
    assert len(hottest) == HOTTEST
    assert ("t", 1, 1.0) not in hottest
    shards[3][1].calls += 4
    clock.now += 2 * SECOND
    assert meter.read().hottest == (("t", 3, 2.0),), "since the last reading"
