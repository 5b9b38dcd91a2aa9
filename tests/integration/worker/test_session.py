"""The session thread against scripted seeds over real gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from seedbed.clock import SystemClock
from seedbed.ids import Generation
from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_worker.binding import Welcomed
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.region import Region
from seedbed_worker.session import Session
from seedbed_worker.session_wire import Identity, LoadSummary
from tests.integration.worker.fake_seed import (
    LOST,
    TTL_MS,
    UNKNOWN,
    FakeSeed,
    fake_seed_in_a_thread,
    fake_seeds,
)
from tests.integration.worker.hanging import relay
from tests.support.waiting import until

pytestmark = pytest.mark.integration

TTL_S = TTL_MS / 1000


class Worker:
    """A session, and what it told the loop."""

    def __init__(self, seeds: Sequence[str]) -> None:
        self.clock = SystemClock()
        self.region = Region()
        self.lag_ns = 0
        self.leases: list[Lease] = []
        self.generations: list[Generation] = []
        self.ends: list[str] = []
        self.refusals: list[str] = []
        self.changes = 0
        self.given = 0
        self.session = Session(
            identity=Identity("test", "w1", "127.0.0.1", 1),
            seeds=seeds,
            region=self.region,
            clock=self.clock,
            events=self,
            load=lambda: LoadSummary(3, 1.5),
            loop_lag_ns=lambda: self.lag_ns,
            loop_stall_limit_ns=1_000_000_000,
        )

    def welcomed(self, welcomed: Welcomed) -> None:
        raise AssertionError("it has no journal")

    def up(self, lease: Lease) -> None:
        self.leases.append(lease)
        self.generations.append(self.region.generation("t", 0))

    def may_be_given(self) -> None:
        self.given += 1

    def tables_changed(self) -> None:
        self.changes += 1

    def fenced(self, why: str) -> None:
        self.ends.append(why)

    def refused(self, reason: str, message: str) -> None:
        self.refusals.append(reason)

    @property
    def lease(self) -> Lease:
        return self.leases[-1]

    def valid(self) -> bool:
        return self.lease.valid(self.clock.now_ns())

    async def is_up(self, times: int = 1) -> None:
        await until(f"up {times} times", lambda: len(self.leases) >= times, within=5)


@asynccontextmanager
async def working(seeds: Sequence[FakeSeed], *, up: bool = True) -> AsyncGenerator[Worker]:
    """A worker of these seeds, the first of which it finds first."""
    worker = Worker([seeds[0].address])
    for seed in seeds:
        seed.seeds = [s.address for s in seeds]
    async with running(worker, up=up):
        yield worker


@asynccontextmanager
async def running(worker: Worker, *, up: bool = True) -> AsyncGenerator[None]:
    """The session runs, and the worker is up; at the end it leaves."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.session.run())
        try:
            if up:
                await worker.is_up()
            yield
        finally:
            await worker.session.leave(0.2)


def table(generation: int, incarnation: str = "somebody") -> store_pb2.AllocationTable:
    owner = store_pb2.ShardOwner(node_id="w", incarnation=incarnation, host="127.0.0.1", port=1)
    return store_pb2.AllocationTable(
        type="t",
        shard_count=1,
        generation=generation,
        owners=[owner],
        owner=[1],
        epoch=[generation],
    )


async def test_the_tables_are_there_when_the_worker_is_up() -> None:
    async with fake_seeds(1) as [seed]:
        seed.tables = [table(9)]
        async with working([seed]) as worker:
            assert worker.generations == [9]
            assert worker.valid()
            assert seed.talk.hello.node_id == "w1"
            assert not seed.talk.hello.HasField("resume")


async def test_a_table_that_was_sent_before_an_ack_is_known_when_the_ack_counts() -> None:
    async with fake_seeds(1) as [seed], working([seed]) as worker:
        seed.answers = None
        await until("a heartbeat", lambda: len(seed.talk.beats) >= 2, within=2)
        before = worker.lease.valid_until_ns
        for generation in range(10, 200):
            update = pb.RouteUpdate(revision=generation, tables=[table(generation)])
            seed.talk.say(pb.SeedMessage(routes=update))
        seed.talk.ack(seed.talk.beats[-1])
        while worker.lease.valid_until_ns == before:
            await asyncio.sleep(0)
        assert worker.region.generation("t", 0) == 199


async def test_heartbeats_carry_the_load() -> None:
    async with fake_seeds(1) as [seed], working([seed]):
        load = seed.talk.heard[0].heartbeat.load
        assert (load.active_entities, load.calls_per_s) == (3, 1.5)


@pytest.mark.parametrize("loss", ["the stream ends", "the seed dies", "garbage"])
async def test_a_lost_stream_is_resumed_elsewhere_with_the_same_lease(loss: str) -> None:
    async with fake_seeds(2) as seeds, working(seeds) as worker:
        incarnation = worker.lease.incarnation
        first, second = seeds
        match loss:
            case "the stream ends":
                first.refuses = "SEED_NOT_READY"
                first.talk.end()
            case "garbage":
                first.talk.out.put_nowait(b"\xff\xff\xff")
            case _:
                await first.stop()
        await until("resumed", lambda: bool(second.talks and second.talk.beats), within=TTL_S)
        hello = second.talk.hello
        assert hello.incarnation == incarnation
        assert (hello.resume.lease_id, hello.resume.secret) == (77, b"secret")
        await until("attached", lambda: worker.lease.attached, within=TTL_S)
        assert worker.valid()
        assert len(worker.leases) == 1
        assert not worker.ends


async def test_a_seed_that_falls_silent_is_left_for_another_before_the_lease_ends() -> None:
    async with fake_seeds(2) as [first, second], working([first, second]) as worker:
        first.answers = None
        await until("resumed", lambda: bool(second.talks and second.talk.beats), within=TTL_S)
        await until("the old stream is closed", lambda: first.talk.over, within=2)
        assert worker.valid()
        assert not worker.ends


async def test_a_connection_that_hangs_is_replaced_by_a_fresh_one_to_the_same_seed() -> None:
    async with fake_seeds(1) as [seed], relay(seed.address) as way:
        worker = Worker([way.address])
        async with running(worker):
            way.hang()
            await until("resumed", lambda: len(seed.talks) == 2, within=TTL_S)
            await until("attached", lambda: bool(seed.talk.beats), within=TTL_S)
            assert seed.talk.hello.HasField("resume")
            assert way.connections == 2
            assert worker.valid()
            assert not worker.ends


async def test_a_worker_without_acks_fences_itself_by_valid_until_though_the_stream_is_open() -> (
    None
):
    async with fake_seeds(1) as [seed], working([seed]) as worker:
        seed.answers, seed.welcomes = None, False
        lease, incarnation = worker.lease, worker.lease.incarnation
        await until("fenced", lambda: lease.fenced, within=TTL_S + 1)
        late_ns = worker.clock.now_ns() - lease.valid_until_ns
        assert 0 <= late_ns < 1_000_000_000
        assert worker.region.incarnation != incarnation
        await until("told", lambda: worker.ends == ["not renewed in time"], within=1)


async def test_a_late_renewal_does_not_revive_and_the_worker_rejoins_as_another() -> None:
    async with fake_seeds(1) as [seed], working([seed]) as worker:
        lease = worker.lease
        seed.answers, seed.welcomes = None, False
        talk = seed.talk
        await until("lapsed", lambda: bool(worker.ends), within=TTL_S + 1)
        for seq in talk.beats:
            talk.ack(seq)
        seed.answers, seed.welcomes, seed.lease_id = pb.LEASE_STATE_RENEWED, True, 78
        await until("up again", lambda: len(worker.leases) == 2, within=8)
        assert lease.fenced
        assert worker.lease.incarnation != lease.incarnation
        replace = seed.talk.hello.replace
        assert (replace.incarnation, replace.secret) == (lease.incarnation, b"secret")


async def test_a_lost_lease_is_a_normal_event() -> None:
    async with fake_seeds(1) as [seed], working([seed]) as worker:
        seed.answers = LOST
        await until("fenced", lambda: bool(worker.ends), within=TTL_S)
        seed.answers = pb.LEASE_STATE_RENEWED
        await worker.is_up(times=2)
        assert worker.leases[0].fenced
        assert worker.valid()


async def test_on_unknown_the_other_seed_is_tried_once_and_the_stream_stays_open() -> None:
    async with fake_seeds(2) as [first, second]:
        first.ttl_ms = 4000  # so that no ack is late, however busy this machine is
        await _unknown_at_both(first, second)


async def _unknown_at_both(first: FakeSeed, second: FakeSeed) -> None:
    async with working([first, second]) as worker:
        second.refuses = "SEED_NOT_READY"
        first.answers = UNKNOWN
        await until("asked the other", lambda: bool(second.talks), within=4)
        assert second.talk.hello.HasField("resume")
        first.answers = pb.LEASE_STATE_RENEWED
        beats = len(first.talk.beats)
        await until("goes on", lambda: len(first.talk.beats) > beats + 2, within=8)
        assert len(second.talks) == 1
        assert len(first.talks) == 1
        assert worker.valid()


async def test_on_unknown_a_seed_that_reaches_the_store_takes_over() -> None:
    async with fake_seeds(2) as [first, second], working([first, second]) as worker:
        first.answers = UNKNOWN
        await until("renewed there", lambda: bool(second.talks and second.talk.beats), within=TTL_S)
        await until("left", lambda: first.talk.over, within=TTL_S)
        assert worker.valid()


async def test_go_elsewhere_is_obeyed_before_the_seed_ends_the_stream() -> None:
    async with fake_seeds(2) as [first, second], working([first, second]) as worker:
        first.talk.say(pb.SeedMessage(go_elsewhere=pb.GoElsewhere()))
        await until("resumed", lambda: bool(second.talks and second.talk.beats), within=TTL_S)
        assert second.talk.hello.incarnation == worker.lease.incarnation
        assert not worker.ends


async def test_a_worker_whose_name_is_taken_stays_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with fake_seeds(1) as [seed]:
        seed.refuses = "NAME_TAKEN"
        async with working([seed], up=False) as worker:
            await until("tried again", lambda: len(seed.talks) >= 3, within=3)
            assert set(worker.refusals) == {"NAME_TAKEN"}
            said = [one for one in caplog.records if one.message == "worker refused"]
            assert len(said) == 1, "logged once"
            assert worker.session.problem == "NAME_TAKEN: as the test says"
            assert worker.session.lease is None
            seed.refuses = ""
            await worker.is_up()
            assert worker.session.problem == ""


async def test_a_worker_without_a_seed_goes_on_trying() -> None:
    async with fake_seeds(1) as [seed]:
        await seed.stop()
        async with working([seed], up=False) as worker:
            await until("says so", lambda: "UNAVAILABLE" in worker.session.problem, within=3)
            assert worker.session.lease is None


async def test_a_stalled_loop_is_no_longer_renewed() -> None:
    async with fake_seeds(1) as [seed], working([seed]) as worker:
        lease = worker.lease
        worker.lag_ns = 2_000_000_000
        await until("fenced", lambda: lease.fenced, within=TTL_S + 1)
        worker.lag_ns = 0
        await worker.is_up(times=2)


async def test_a_loop_that_stands_still_for_longer_than_the_ttl_keeps_its_lease() -> None:
    async with fake_seed_in_a_thread() as seed, working([seed]) as worker:
        time.sleep(TTL_S * 1.5)  # noqa: ASYNC251  this is the stall
        assert worker.valid()


async def test_draining_then_goodbye_then_farewell() -> None:
    async with fake_seeds(1) as [seed]:
        seed.says_farewell = False
        async with working([seed]) as worker:
            worker.session.drain()
            await until("draining", lambda: seed.talk.heard_kinds() == ["draining"], within=2)
            assert worker.valid(), "it serves until its shards are handed off"
            async with asyncio.TaskGroup() as tasks:
                leaving = tasks.create_task(worker.session.leave(5))
                said = ["draining", "goodbye"]
                await until("goodbye", lambda: seed.talk.heard_kinds() == said, within=2)
                assert worker.lease.fenced, "fenced before goodbye"
                assert not leaving.done()
                seed.talk.say(pb.SeedMessage(farewell=pb.Farewell()))
            assert leaving.result()


async def test_a_seed_that_says_no_farewell_holds_nobody_up() -> None:
    async with fake_seeds(1) as [seed]:
        seed.says_farewell = False
        async with working([seed]) as worker:
            started = worker.clock.now_ns()
            assert not await worker.session.leave(0.3)
            assert worker.clock.now_ns() - started < 1_000_000_000
