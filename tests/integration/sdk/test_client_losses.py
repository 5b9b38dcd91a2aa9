"""The routing client when calls, callers and workers go; large ones; streams."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import grpc
import grpc.aio
import pytest
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from seedbed.client import Client
from seedbed.errors import Reason, SettingsError
from seedbed.frames import BATCH_BYTES, STREAM_CREDIT
from seedbed.status import reason
from tests.integration.sdk.client_world import (
    WITHIN,
    calling,
    census,
    refusal,
    until_epoch,
)
from tests.integration.sdk.link_worker import LinkWorker, serving
from tests.support.etcd import free_port
from tests.support.waiting import now, until

pytestmark = pytest.mark.integration


async def test_a_cancelled_call_is_told_to_the_worker() -> None:
    worker = LinkWorker()
    async with census(worker) as stub:
        call = stub.Get(pb.Person(name="silent"), timeout=10)
        await until("the call is there", lambda: len(worker.calls) == 1, within=5)
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()
        assert await call.code() is grpc.StatusCode.CANCELLED
        await until("the worker is told", lambda: len(worker.cancelled) == 1, within=5)


async def test_a_caller_that_is_cancelled_takes_its_call_along() -> None:
    worker = LinkWorker()
    async with census(worker) as stub:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await stub.Get(pb.Person(name="silent"), timeout=10)
        await until("the worker is told", lambda: len(worker.cancelled) == 1, within=5)


async def test_a_worker_that_never_answers_costs_the_deadline() -> None:
    async with census(LinkWorker()) as stub:
        began = now()
        error = await refusal(stub.Get(pb.Person(name="silent"), timeout=0.3))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert reason(error) == Reason.DEADLINE.value
        assert now() - began < 2


async def test_a_stream_cut_in_mid_call_leaves_the_outcome_open() -> None:
    worker = LinkWorker()
    async with census(worker) as stub:
        changing = stub.Add(pb.Person(name="silent"), timeout=5)
        await until("the call is there", lambda: len(worker.calls) == 1, within=5)
        # The worker cuts the stream at this call, each time: a read is repeated once.
        error = await refusal(stub.Get(pb.Person(name="cut"), timeout=5))
        assert error.code() is grpc.StatusCode.UNKNOWN
        assert reason(error) == Reason.OUTCOME_UNKNOWN.value
        assert [call.attempt for call in worker.calls if call.key == "cut"] == [1, 2]
        assert reason(await refusal(changing)) == Reason.OUTCOME_UNKNOWN.value
        assert (await stub.Get(pb.Person(name="ann"), timeout=5)).name == "ann"


async def test_a_worker_that_dies_in_mid_call_leaves_the_outcome_open_at_once() -> None:
    worker = LinkWorker()
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(worker))
        stub, _ = await stack.enter_async_context(calling(f"127.0.0.1:{worker.port}"))
        changing = stub.Add(pb.Person(name="silent"), timeout=15)
        reading = stub.Get(pb.Person(name="silent"), timeout=2)
        await until("the calls are there", lambda: len(worker.calls) == 2, within=5)
        began = now()
        await server.close(0)
        assert reason(await refusal(changing)) == Reason.OUTCOME_UNKNOWN.value
        assert now() - began < 1
        # What may be repeated waits for a new owner; nothing was kept, so that is no lie.
        assert reason(await refusal(reading)) == Reason.MOVING.value
        assert now() - began < 3


async def test_large_replies_come_through() -> None:
    async with census(LinkWorker()) as stub:
        count = await stub.Get(pb.Person(name="big"), timeout=10)
        assert len(count.name) == 1_000_000


async def test_garbage_ends_its_stream_and_nothing_else() -> None:
    worker = LinkWorker()
    async with census(worker) as stub:
        error = await refusal(stub.Add(pb.Person(name="garbage"), timeout=5))
        assert reason(error) == Reason.OUTCOME_UNKNOWN.value
        assert (await stub.Get(pb.Person(name="ann"), timeout=5)).name == "ann"
        assert worker.streams == 2


async def test_a_worker_that_comes_back_on_its_port_is_found_again() -> None:
    first = LinkWorker()
    async with contextlib.AsyncExitStack() as stack:
        stub, _ = await stack.enter_async_context(calling(f"127.0.0.1:{(port := free_port())}"))
        async with serving(first, port=port):
            await stub.Get(pb.Person(name="ann"), timeout=5)
        async with serving(LinkWorker(incarnation="two", epoch=6), port=port):
            await until_epoch(stub, 6)
            assert (await stub.Get(pb.Person(name="ann"), timeout=5)).worker == "two"


async def test_large_requests_have_a_stream_of_their_own() -> None:
    worker = LinkWorker()
    async with census(worker) as stub, asyncio.TaskGroup() as group:
        large = "x" * 500
        big = pb.SlowRequest(person=pb.Person(name=large))
        big.MergeFromString(b"\x7a" + _varint(1_000_000) + bytes(1_000_000))  # an unknown field
        tasks = [group.create_task(_await(stub.Slow(big, timeout=10))) for _ in range(4)]
        for n in range(50):
            assert (await stub.Get(pb.Person(name=f"p{n}"), timeout=5)).name == f"p{n}"
        assert all([(await task).name == large for task in tasks])
        assert worker.streams == 2
        assert max(len(call.request) for call in worker.calls) > BATCH_BYTES


async def _await(call: grpc.aio.UnaryUnaryCall[pb.SlowRequest, pb.Count]) -> pb.Count:
    return await call


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


async def test_a_stream_is_read_to_its_end() -> None:
    async with census(LinkWorker()) as stub:
        call = stub.Watch(pb.Person(name="until-100"))
        assert [count.count async for count in call] == list(range(1, 101))
        assert await call.code() is grpc.StatusCode.OK
        call = stub.Watch(pb.Person(name="until-2"))
        read = [await call.read() for _ in range(3)]
        assert [one.count if isinstance(one, pb.Count) else one for one in read] == [
            1,
            2,
            grpc.aio.EOF,
        ]


async def test_a_slow_reader_holds_at_most_its_credit() -> None:
    worker = LinkWorker()
    async with census(worker) as stub:
        call = stub.Watch(pb.Person(name="until-1000"))
        items = aiter(call)
        assert (await anext(items)).count == 1
        [watching] = worker.watching.values()
        assert watching.sent == STREAM_CREDIT
        for n in range(2, STREAM_CREDIT + 1):
            assert (await anext(items)).count == n
        await until("more has come", lambda: watching.sent > STREAM_CREDIT, within=5)
        assert watching.sent <= 2 * STREAM_CREDIT
        call.cancel()
        await until("the worker is told", lambda: len(worker.cancelled) == 1, within=5)
        assert await call.code() is grpc.StatusCode.CANCELLED


async def test_a_stream_that_nobody_holds_any_more_is_given_up() -> None:
    worker = LinkWorker()
    async with census(worker) as stub:
        async for count in stub.Watch(pb.Person(name="until-1000")):
            assert count.count == 1
            break
        gc.collect()  # as in grpc.aio, a call and its iterator hold each other
        await until("the worker is told", lambda: len(worker.cancelled) == 1, within=5)


async def test_seeds_may_be_a_name_that_dns_knows() -> None:
    worker = LinkWorker()
    async with serving(worker), calling(f"dns:///localhost:{worker.port}") as (stub, _):
        assert (await stub.Get(pb.Person(name="ann"), timeout=10)).name == "ann"


async def test_seeds_that_are_no_addresses_are_refused() -> None:
    with pytest.raises(SettingsError, match="seeds"):
        Client("not an address")


async def test_seeds_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = LinkWorker()
    async with serving(worker):
        monkeypatch.setenv("SEEDBED_SEEDS", f"127.0.0.1:{worker.port}")
        async with asyncio.timeout(WITHIN), Client() as channel:
            stub = rpc.CensusStub(channel)
            assert (await stub.Get(pb.Person(name="ann"), timeout=5)).name == "ann"
