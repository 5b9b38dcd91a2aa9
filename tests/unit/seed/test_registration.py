"""Workers register: who is admitted, and what each step leaves in the store."""

from __future__ import annotations

import pytest

from seedbed import tables
from seedbed.errors import Reason
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.routing import Owner, ShardTable
from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_seed.evidence import Identified, Silence
from seedbed_seed.store import Put
from tests.unit.seed.declared import Field, declaration, hello, resuming
from tests.unit.seed.desk import Desk, desk
from tests.unit.seed.scripted import TroubledStore

RENEWED = pb.LEASE_STATE_RENEWED
LOST = pb.LEASE_STATE_LOST
UNKNOWN = pb.LEASE_STATE_UNKNOWN

HERE = ("127.0.0.1", 4000)
THERE = ("127.0.0.1", 4001)


async def test_a_worker_joins_and_is_up_with_its_first_renewal() -> None:
    async with desk() as seed:
        worker, welcome = await seed.join(hello())
        record = await seed.record("w1")
        assert record is not None
        assert record.member.status == store_pb2.MEMBER_STATUS_JOINING
        assert record.lease_id == welcome.lease_id
        assert welcome.secret not in record.SerializeToString()
        assert welcome.ttl_ms == 1000
        assert await worker.state() == RENEWED
        await seed.until_status("w1", store_pb2.MEMBER_STATUS_UP)


async def test_a_worker_is_told_that_it_is_up_when_its_record_says_so_and_not_before() -> None:
    async with desk() as seed:
        first = hello()
        worker, welcome = await seed.join(first)
        seed.store.swallow = 1_000_000
        assert await worker.state() == RENEWED
        assert await worker.state() == RENEWED
        assert "up" not in [m.WhichOneof("kind") for m in worker.heard]
        seed.store.swallow = 0
        await worker.expect("up")
        record = await seed.record("w1")
        assert record is not None
        assert record.member.status == store_pb2.MEMBER_STATUS_UP
        again, _ = await seed.join(resuming(first, welcome))
        assert await again.state() == RENEWED
        await again.expect("up")


async def test_welcome_comes_first_then_a_snapshot_of_all_routes() -> None:
    async with desk() as seed:
        worker, _ = await seed.join(hello())
        routes = (await worker.expect("routes")).routes
        assert [m.WhichOneof("kind") for m in worker.heard] == ["welcome", "routes"]
        assert routes.snapshot
        assert [contract.type for contract in routes.contracts] == ["cup"]


async def test_a_worker_resumes_with_its_secret_on_another_stream() -> None:
    async with desk() as seed:
        first = hello()
        old, welcome = await seed.join(first)
        assert await old.state() == RENEWED
        await seed.until_status("w1", store_pb2.MEMBER_STATUS_UP)
        new, again = await seed.join(resuming(first, welcome))
        assert again.lease_id == welcome.lease_id
        assert await new.state() == RENEWED
        record = await seed.record("w1")
        assert record is not None
        assert record.stream_id == new.hello.stream_id
        assert record.member.status == store_pb2.MEMBER_STATUS_UP


async def test_the_stream_that_a_worker_has_left_renews_nothing() -> None:
    async with desk() as seed:
        first = hello()
        old, welcome = await seed.join(first)
        await seed.join(resuming(first, welcome))
        assert await old.state() == UNKNOWN
        await old.until_ended()


async def test_a_wrong_secret_resumes_nothing() -> None:
    async with desk() as seed:
        first = hello()
        worker, welcome = await seed.join(first)
        thief = seed.connect(resuming(first, welcome, b"guessed"))
        refused = (await thief.expect("refused")).refused
        assert refused.reason == "FENCED"
        await thief.until_ended()
        assert await worker.state() == RENEWED


async def test_a_resume_after_the_lease_has_ended_is_fenced() -> None:
    async with desk() as seed:
        first = hello()
        _, welcome = await seed.join(first)
        await seed.store.revoke(welcome.lease_id)
        worker = seed.connect(resuming(first, welcome))
        assert (await worker.expect("refused")).refused.reason == "FENCED"


async def test_a_second_process_of_a_name_is_refused_while_the_first_answers() -> None:
    async with desk() as seed:
        first = hello()
        worker, _ = await seed.join(first)
        seed.dialler.answers[HERE] = Identified("w1", first.incarnation)
        second = seed.connect(hello(port=4001))
        refused = (await second.expect("refused")).refused
        assert refused.reason == "NAME_TAKEN"
        assert refused.retry_after_ms > 0
        assert await worker.state() == RENEWED


async def test_a_name_is_taken_while_nobody_can_tell_whether_its_holder_lives() -> None:
    async with desk() as seed:
        await seed.join(hello())
        second = seed.connect(hello(port=4001))
        assert (await second.expect("refused")).refused.reason == "NAME_TAKEN"


async def test_a_name_whose_holders_port_refuses_is_given_on_without_proof() -> None:
    async with desk() as seed:
        first = hello()
        worker, _ = await seed.join(first)
        seed.dialler.answers[HERE] = Silence.REFUSED
        await seed.join(hello(port=4001))
        record = await seed.record("w1")
        assert record is not None
        assert record.member.port == 4001
        assert record.replaced_incarnation == ""
        assert await worker.state() == LOST


async def test_a_restart_in_place_proves_that_the_old_incarnation_serves_no_more() -> None:
    async with desk() as seed:
        first = hello()
        await seed.join(first)
        second = hello()
        seed.dialler.answers[HERE] = Identified("w1", second.incarnation)
        await seed.join(second)
        record = await seed.record("w1")
        assert record is not None
        assert record.replaced_incarnation == first.incarnation


@pytest.mark.parametrize("answers", ["newcomer", "stranger"])
async def test_a_restart_in_place_is_proof_also_when_the_record_is_gone_already(
    answers: str,
) -> None:
    async with desk() as seed:
        owner = Owner(NodeId("w1"), Incarnation("before"), *HERE)
        table = ShardTable("cup", 0, 1, Generation(7), (owner,), (1,), (Epoch(7),))
        key = seed.keys.table("cup", 0)
        await seed.store.write(Put(key, tables.to_proto(table).SerializeToString()))
        await seed.until("the table is seen", lambda: bool(seed.view.tables))
        second = hello()
        speaker = second.incarnation if answers == "newcomer" else "stranger"
        seed.dialler.answers[HERE] = Identified("w1", speaker)
        await seed.join(second)
        record = await seed.record("w1")
        assert record is not None
        assert record.replaced_incarnation == ("before" if answers == "newcomer" else "")


async def test_a_newcomer_at_another_address_proves_nothing() -> None:
    async with desk() as seed:
        await seed.join(hello())
        seed.dialler.answers[HERE] = Identified("x", "stranger")
        await seed.join(hello(port=4001))
        record = await seed.record("w1")
        assert record is not None
        assert record.replaced_incarnation == ""


async def test_a_process_replaces_its_own_earlier_incarnation_with_the_secret() -> None:
    async with desk() as seed:
        first = hello()
        _, welcome = await seed.join(first)
        second = hello(port=4001)
        second.replace.incarnation = first.incarnation
        second.replace.secret = welcome.secret
        await seed.join(second)
        record = await seed.record("w1")
        assert record is not None
        assert record.replaced_incarnation == first.incarnation
        assert seed.dialler.dialled == []


async def test_a_replacement_with_a_wrong_secret_is_a_stranger() -> None:
    async with desk() as seed:
        first = hello()
        await seed.join(first)
        second = hello(port=4001)
        second.replace.incarnation = first.incarnation
        second.replace.secret = b"guessed"
        worker = seed.connect(second)
        assert (await worker.expect("refused")).refused.reason == "NAME_TAKEN"


async def test_a_hello_whose_write_is_in_doubt_is_resolved_by_reading() -> None:
    async with desk() as seed:
        await seed.contracts.register([declaration()])
        seed.store.lose_answers = 1
        first = hello()
        worker, welcome = await seed.join(first)
        assert await worker.state() == RENEWED
        seed.store.lose_answers = 1
        again, _ = await seed.join(resuming(first, welcome))
        assert await again.state() == RENEWED


async def test_a_hello_whose_write_did_not_happen_is_for_another_seed() -> None:
    async with desk() as seed:
        await seed.contracts.register([declaration()])
        seed.store.swallow = 1
        worker = seed.connect(hello())
        await worker.until_ended()
        assert getattr(worker.error, "reason", None) is Reason.SEED_NOT_READY
        assert await seed.record("w1") is None


async def test_a_goodbye_writes_left_and_ends_the_lease() -> None:
    async with desk(ttl_s=60) as seed:
        statuses: list[store_pb2.MemberStatus.ValueType] = []
        seed.view.listen(
            lambda change: statuses.extend(
                known.record.member.status for known in seed.view.workers.values()
            )
        )
        worker, welcome = await seed.join(hello())
        assert await worker.state() == RENEWED
        await seed.until_status("w1", store_pb2.MEMBER_STATUS_UP)
        worker.send(pb.WorkerMessage(draining=pb.Draining()))
        await seed.until_status("w1", store_pb2.MEMBER_STATUS_DRAINING)
        worker.send(pb.WorkerMessage(goodbye=pb.Goodbye()))
        await worker.expect("farewell")
        await worker.until_ended()
        assert worker.error is None
        await seed.until_gone("w1")
        assert statuses[-1] == store_pb2.MEMBER_STATUS_LEFT
        assert await seed.store.renew(welcome.lease_id) == 0


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (declaration(shards=64), "16 shards for ever"),
        (declaration(key_number=2), "the key was field"),
        (declaration(key_type=Field.TYPE_INT64), "the key"),
        (declaration(methods=(), streams=("Fill",)), "unary and streaming"),
        (declaration(type_="mug"), "a service keeps its type"),
        (declaration(keyed=False), "has no key"),
    ],
)
async def test_a_contract_that_cannot_be_served_beside_the_known_one_is_refused(
    second: pb.TypeDeclaration, says: str
) -> None:
    async with desk() as seed:
        await seed.join(hello())
        worker = seed.connect(hello("w2", types=[second]))
        refused = (await worker.expect("refused")).refused
        assert refused.reason == "INCOMPATIBLE"
        assert says in refused.message
        assert await seed.record("w2") is None


async def test_a_build_with_other_methods_registers_and_both_stay_known() -> None:
    async with desk() as seed:
        await seed.join(hello())
        await seed.join(hello("w2", types=[declaration(methods=("Empty",), streams=("Watch",))]))
        await seed.until("the merged contract", lambda: len(_methods(seed)) == 3)
        await seed.join(hello("w3"))
        assert _methods(seed) == {"Fill", "Empty", "Watch"}


def _methods(seed: Desk) -> set[str]:
    known = seed.view.contracts.get("cup")
    return set(known.contract.methods) if known is not None else set()


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("cluster", "other", "INCOMPATIBLE"),
        ("protocol_min", 2, "PROTOCOL"),
        ("node_id", "No Name", "INCOMPATIBLE"),
        ("stream_id", "", "INCOMPATIBLE"),
        ("incarnation", "x" * 200, "INCOMPATIBLE"),
        ("port", 0, "INCOMPATIBLE"),
        ("host", "", "INCOMPATIBLE"),
    ],
)
async def test_a_hello_that_makes_no_sense_here_is_refused(
    field: str, value: str | int, reason: str
) -> None:
    async with desk() as seed:
        greeting = hello()
        greeting.protocol_max = 9
        setattr(greeting, field, value)
        worker = seed.connect(greeting)
        refused = (await worker.expect("refused")).refused
        assert refused.reason == reason
        assert refused.message


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"", b"\x0a\x03abc"])
async def test_garbage_ends_its_stream_alone(garbage: bytes) -> None:
    async with desk() as seed:
        good, _ = await seed.join(hello())
        bad, _ = await seed.join(hello("w2"))
        bad.messages.put_nowait(garbage)
        await bad.until_ended()
        assert getattr(bad.error, "reason", None) is Reason.BAD_REQUEST
        assert await good.state() == RENEWED


async def test_a_stream_that_does_not_begin_with_hello_is_garbage() -> None:
    async with desk() as seed:
        worker = seed.connect(hello())
        worker.messages.get_nowait()
        worker.beat()
        await worker.until_ended()
        assert getattr(worker.error, "reason", None) is Reason.BAD_REQUEST


async def test_a_seed_that_has_read_nothing_takes_no_workers() -> None:
    async with TroubledStore() as store:
        seed = Desk(store)
        async with seed.open():
            seed.view.synced = False
            worker = seed.connect(hello())
            await worker.until_ended()
            assert getattr(worker.error, "reason", None) is Reason.SEED_NOT_READY
