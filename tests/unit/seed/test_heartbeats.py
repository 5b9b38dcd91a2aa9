"""What is behind each answer to a heartbeat, and what a stream's end leaves behind."""

from __future__ import annotations

import asyncio

import pytest

from seedbed import tables as codec
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.routing import Owner, ShardTable
from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_seed.evidence import Budget, Dialled, Identified, Silence
from seedbed_seed.store import Get, Put, Snapshot
from tests.unit.seed.declared import hello, resuming
from tests.unit.seed.desk import Desk, desk
from tests.unit.seed.scripted import ScriptedDialler, ScriptedWorker, TroubledStore

RENEWED = pb.LEASE_STATE_RENEWED
LOST = pb.LEASE_STATE_LOST
UNKNOWN = pb.LEASE_STATE_UNKNOWN

HERE = ("127.0.0.1", 4000)


def table(generation: int, owner: str = "w1-1") -> store_pb2.AllocationTable:
    return codec.to_proto(
        ShardTable(
            type="cup",
            chunk=0,
            shard_count=16,
            generation=Generation(generation),
            owners=(Owner(NodeId("w1"), Incarnation(owner), "127.0.0.1", 4000),),
            owner=(1,) * 16,
            epoch=(Epoch(generation),) * 16,
        )
    )


def kinds(worker: ScriptedWorker) -> list[str]:
    return [str(message.WhichOneof("kind")) for message in worker.heard]


async def test_a_table_older_than_the_renewal_is_sent_before_the_ack() -> None:
    async with desk() as seed:
        worker, _ = await seed.join(hello())
        assert await worker.state() == RENEWED
        for generation in range(1, 30):
            await seed.put_table(table(generation))
            assert await worker.state() == RENEWED
            sent = [
                t.generation for m in worker.heard for t in m.routes.tables if m.HasField("routes")
            ]
            assert sent[-1] == generation


async def test_an_ack_waits_behind_the_tables_that_a_slow_reader_has_not_taken() -> None:
    async with desk(ttl_s=4) as seed:
        worker, _ = await seed.join(hello())
        assert await worker.state() == RENEWED
        await worker.expect("up")
        worker.read_on.clear()
        await seed.view.reached(await seed.put_table(table(1)))
        renewed = asyncio.Event()
        renew = seed.store.renew

        async def seen(lease: int, *, timeout: float | None = None) -> int:
            renewed.set()
            return await renew(lease, timeout=timeout)

        seed.store.renew = seen  # type: ignore[method-assign]
        worker.beat()
        async with asyncio.timeout(2):
            await renewed.wait()
        await seed.view.reached(await seed.put_table(table(2)))
        worker.read_on.set()
        await worker.expect("heartbeat_ack")
        assert kinds(worker)[-3:] == ["routes", "routes", "heartbeat_ack"]


async def test_no_renewal_while_the_watch_has_not_delivered_the_newest_table() -> None:
    async with desk() as seed:
        worker, _ = await seed.join(hello())
        assert await worker.state() == RENEWED
        hold = asyncio.Event()
        apply = seed.view.apply

        def held(update: object) -> None:
            """The watch stands still: what it delivers is thrown away."""
            assert not hold.is_set()

        seed.view.apply = held  # type: ignore[method-assign]
        await seed.put_table(table(1))
        assert await worker.state() == UNKNOWN
        seed.view.apply = apply  # type: ignore[method-assign]


async def test_a_stuck_store_is_answered_as_unknown_within_an_eighth_of_the_ttl() -> None:
    async with desk(ttl_s=2) as seed:
        worker, _ = await seed.join(hello())
        assert await worker.state() == RENEWED
        seed.store.stuck = True
        began_ns = seed.clock.now_ns()
        assert await worker.state() == UNKNOWN
        assert seed.clock.now_ns() - began_ns < 0.5e9  # TTL/8 is 0.25 s
        seed.store.stuck = False
        assert await worker.state() == RENEWED


async def test_a_lost_lease_is_said_at_once() -> None:
    async with desk() as seed:
        worker, welcome = await seed.join(hello())
        assert await worker.state() == RENEWED
        await seed.store.revoke(welcome.lease_id)
        ack = await worker.ack()
        assert ack.state == LOST
        await worker.until_ended()


async def test_a_deleted_record_is_lost_although_the_lease_lives() -> None:
    async with desk() as seed:
        worker, welcome = await seed.join(hello())
        key = seed.keys.worker("w1")
        # The record moves to another lease and goes with it; the worker's own lease goes on.
        await seed.store.grant(99, 10)
        reading = await seed.store.read(Get(key))
        await seed.store.write(Put(key, reading.answers[0][0].value, lease=99))
        await seed.store.revoke(99)
        assert await seed.store.renew(welcome.lease_id) > 0
        assert await worker.state() == LOST


async def test_a_marked_member_is_renewed_by_no_stream() -> None:
    async with desk() as seed:
        worker, _ = await seed.join(hello())
        assert await worker.state() == RENEWED
        await seed.until_status("w1", store_pb2.MEMBER_STATUS_UP)
        record = await seed.record("w1")
        assert record is not None
        record.silent.age_ms = 1
        put = Put(seed.keys.worker("w1"), record.SerializeToString(), lease=record.lease_id)
        await seed.store.write(put)
        assert await worker.state() == UNKNOWN
        await worker.until_ended()


async def test_a_broken_stream_is_marked_with_its_age_and_a_resume_clears_the_mark() -> None:
    async with desk(ttl_s=2) as seed:
        first = hello()
        worker, welcome = await seed.join(first)
        assert await worker.state() == RENEWED
        await seed.until_status("w1", store_pb2.MEMBER_STATUS_UP)
        worker.disconnect()
        await seed.until_silent("w1")
        record = await seed.record("w1")
        assert record is not None
        assert record.silent.age_ms < 1000
        again, _ = await seed.join(resuming(first, welcome))
        assert await again.state() == RENEWED
        record = await seed.record("w1")
        assert record is not None
        assert not record.HasField("silent")


async def test_a_stream_without_heartbeats_is_ended_and_marked() -> None:
    async with desk() as seed:
        worker, _ = await seed.join(hello())
        assert await worker.state() == RENEWED
        await worker.until_ended()
        await seed.until_silent("w1")
        record = await seed.record("w1")
        assert record is not None
        # Two heartbeats of a TTL of 1 s, and a little more.
        assert 450 <= record.silent.age_ms <= 1000


async def test_the_mark_of_a_left_stream_is_not_written() -> None:
    async with desk(ttl_s=2) as seed:
        first = hello()
        old, welcome = await seed.join(first)
        assert await old.state() == RENEWED
        new, _ = await seed.join(resuming(first, welcome))
        old.disconnect()
        await old.until_ended()
        assert await new.state() == RENEWED
        record = await seed.record("w1")
        assert record is not None
        assert not record.HasField("silent")


async def test_one_that_never_was_renewed_goes_with_its_stream() -> None:
    async with desk(ttl_s=60) as seed:
        worker, welcome = await seed.join(hello())
        worker.disconnect()
        await seed.until_gone("w1")
        assert await seed.store.renew(welcome.lease_id) == 0


async def reached(seed: Desk, greeting: pb.Hello) -> tuple[ScriptedWorker, pb.Welcome]:
    """A worker that is UP, and that the seed has reached at its address."""
    seed.dialler.answers[HERE] = Identified(greeting.node_id, greeting.incarnation)
    worker, welcome = await seed.join(greeting)
    assert await worker.state() == RENEWED
    await seed.until_status(greeting.node_id, store_pb2.MEMBER_STATUS_UP)
    assert HERE in seed.dialler.dialled
    return worker, welcome


async def test_a_port_that_refuses_where_it_was_reached_before_is_evidence() -> None:
    async with desk(ttl_s=3) as seed:
        worker, welcome = await reached(seed, hello())
        seed.dialler.answers[HERE] = Silence.REFUSED
        worker.disconnect()
        await seed.until_gone("w1")
        assert await seed.store.renew(welcome.lease_id) == 0


async def test_another_incarnation_at_its_address_is_evidence() -> None:
    async with desk(ttl_s=3) as seed:
        worker, _ = await reached(seed, hello())
        seed.dialler.answers[HERE] = Identified("w1", "newer")
        worker.disconnect()
        await seed.until_gone("w1")


async def test_a_time_out_is_no_evidence() -> None:
    async with desk(ttl_s=3) as seed:
        worker, welcome = await reached(seed, hello())
        seed.dialler.answers[HERE] = Silence.UNKNOWN
        worker.disconnect()
        await seed.until_silent("w1")
        assert not await seed.dialler.is_dead(*HERE, "w1")
        assert await seed.store.renew(welcome.lease_id) > 0


@pytest.mark.parametrize(
    ("dials", "dead"),
    [
        ("RRR", True),
        ("URRR", True),  # the listener of a dying process is closed after its streams
        ("RRURRR", True),
        ("RRURRU", False),
        ("UUUUUU", False),
        ("RRI", False),
        ("RRN", True),
    ],
)
async def test_only_refusals_in_a_row_or_a_newcomer_show_death(dials: str, dead: bool) -> None:
    answers: dict[str, Dialled] = {
        "R": Silence.REFUSED,
        "U": Silence.UNKNOWN,
        "I": Identified("w1", "w1-a"),
        "N": Identified("w1", "newer"),
    }
    dialler = ScriptedDialler()
    dialler.script = [answers[letter] for letter in dials]
    assert await dialler.is_dead(*HERE, "w1-a") is dead
    assert not dialler.script


async def test_a_refusal_where_it_never_was_reached_is_no_evidence() -> None:
    async with desk(ttl_s=3) as seed:
        worker, welcome = await seed.join(hello())
        assert await worker.state() == RENEWED
        await seed.until_status("w1", store_pb2.MEMBER_STATUS_UP)
        seed.dialler.answers[HERE] = Silence.REFUSED
        dialled = len(seed.dialler.dialled)
        worker.disconnect()
        await seed.until_silent("w1")
        assert len(seed.dialler.dialled) == dialled
        assert await seed.store.renew(welcome.lease_id) > 0


async def test_evidence_switched_off_dials_nobody() -> None:
    async with desk(ttl_s=3, evidence="off") as seed:
        worker, _ = await seed.join(hello())
        assert await worker.state() == RENEWED
        seed.dialler.answers[HERE] = Silence.REFUSED
        worker.disconnect()
        await seed.until_silent("w1")
        assert seed.dialler.dialled == []


async def test_a_resume_elsewhere_wins_over_evidence(caplog: pytest.LogCaptureFixture) -> None:
    async with desk(ttl_s=3) as seed:
        first = hello()
        worker, welcome = await reached(seed, first)
        seed.dialler.answers[HERE] = Silence.REFUSED
        worker.disconnect()
        await seed.until_silent("w1")
        # The dials take 0.2 s; the resume comes before they are done.
        again, _ = await seed.join(resuming(first, welcome))
        async with asyncio.timeout(5):
            while not (dead := [r for r in caplog.records if r.message == "worker seen dead"]):
                assert await again.state() == RENEWED
        assert vars(dead[0])["resumed_meanwhile"]
        assert await again.state() == RENEWED


async def test_evidence_counts_for_one_member_of_few_within_a_ttl() -> None:
    async with desk(ttl_s=3) as seed:
        one, _ = await reached(seed, hello("w1"))
        two, _ = await reached(seed, hello("w2"))
        seed.dialler.answers[HERE] = Silence.REFUSED
        one.disconnect()
        await seed.until_gone("w1")
        two.disconnect()
        await seed.until_silent("w2")
        async with asyncio.timeout(5):
            while seed.dialler.dialled.count(HERE) < 8:
                await asyncio.sleep(0.01)
        assert await seed.record("w2") is not None


class MovedClock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.ns = 0

    def now_ns(self) -> int:
        return self.ns

    def wall_ms(self) -> int:
        return 0


def test_the_budget_is_a_tenth_of_the_members_within_a_ttl_and_at_least_one() -> None:
    clock = MovedClock()
    budget = Budget(clock, ttl_s=5)
    assert [budget.take(40) for _ in range(6)] == [True] * 4 + [False] * 2
    clock.ns = 5_000_000_000
    assert [budget.take(9) for _ in range(2)] == [True, False]


async def test_workers_are_sent_elsewhere_and_the_wait_ends_when_they_have_gone() -> None:
    async with desk(ttl_s=3) as seed:
        worker, _ = await seed.join(hello())
        assert await worker.state() == RENEWED
        async with asyncio.TaskGroup() as tasks:
            going = tasks.create_task(seed.registration.send_elsewhere(5.0))
            await worker.expect("go_elsewhere")
            worker.disconnect()
            async with asyncio.timeout(2):
                await going
        late = seed.connect(hello("w2"))
        await late.until_ended()
        assert late.error is not None


async def test_another_seed_over_the_same_store_resumes_a_worker() -> None:
    async with TroubledStore() as store:
        one, two = Desk(store, node="s1"), Desk(store, node="s2")
        async with one.open(), two.open():
            first = hello()
            worker, welcome = await one.join(first)
            assert await worker.state() == RENEWED
            again, _ = await two.join(resuming(first, welcome))
            assert await again.state() == RENEWED
            assert await worker.state() == UNKNOWN


async def test_after_a_restore_all_streams_end() -> None:
    async with desk(ttl_s=60) as seed:
        worker, _ = await seed.join(hello())
        assert await worker.state() == RENEWED
        reading = await seed.store.read(Get(seed.keys.prefix, prefix=True))
        seed.view.apply(Snapshot(reading.revision, reading.answers[0], restored=True))
        await worker.until_ended()


async def test_a_restored_store_renews_nothing_before_the_watch_has_noticed() -> None:
    async with desk(ttl_s=2) as seed:
        worker, _ = await seed.join(hello())
        assert await worker.state() == RENEWED

        def held(update: object) -> None:
            """The watch stands still: what it delivers is thrown away."""

        seed.view.apply = held  # type: ignore[method-assign]
        seed.view.revision += 100
        assert await worker.state() == UNKNOWN


async def test_a_worker_that_reads_nothing_is_given_up() -> None:
    async with desk() as seed:
        worker = seed.connect(hello(), reading=False)
        async with asyncio.timeout(5):
            while "w1" not in seed.view.workers:
                await asyncio.sleep(0.01)
        worker.beat()
        await seed.until_gone("w1")
