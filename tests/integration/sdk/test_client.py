"""The routing client with a generated stub, against a small real worker over real gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncGenerator

import grpc
import grpc.aio
import pytest
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from seedbed.client import Client
from seedbed.errors import Reason, SettingsError
from seedbed.frames import BATCH_BYTES, STREAM_CREDIT
from seedbed.helpers import once
from seedbed.status import reason
from tests.integration.sdk.link_worker import LinkWorker, serving
from tests.support.waiting import now, until

pytestmark = pytest.mark.integration
WITHIN = 20.0


def free_port() -> int:
    """A port where nobody listens."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def calling(*addresses: str) -> AsyncGenerator[tuple[rpc.CensusAsyncStub, grpc.aio.Channel]]:
    async with asyncio.timeout(WITHIN), Client(addresses) as channel:
        yield rpc.CensusStub(channel), channel


@contextlib.asynccontextmanager
async def census(worker: LinkWorker) -> AsyncGenerator[rpc.CensusAsyncStub]:
    async with serving(worker), calling(f"127.0.0.1:{worker.port}") as (stub, _):
        yield stub


async def refusal(call: grpc.aio.UnaryUnaryCall[pb.Person, pb.Count]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_call_goes_straight_to_the_owner() -> None:
    worker = LinkWorker()
    async with census(worker) as stub:
        count = await stub.Get(pb.Person(name="ann"), timeout=5)
        assert (count.name, count.worker, count.epoch) == ("ann", "one", 5)
        [call] = worker.calls
        assert (call.method, call.type, call.key) == ("/census.v1.Census/Get", "census", "ann")
        assert call.request == pb.Person(name="ann").SerializeToString()
        assert call.request_id[14] == "7"
        assert not call.from_seed


async def test_a_call_behaves_as_one_of_grpc_aio() -> None:
    async with census(LinkWorker()) as stub:
        call = stub.Get(pb.Person(name="ann"), timeout=5, metadata=(("tenant", "acme"),))
        assert not call.done()
        finished: list[object] = []
        call.add_done_callback(finished.append)
        assert (await call).name == "ann"
        assert await call.code() is grpc.StatusCode.OK
        assert await call.details() == ""
        assert ("seen", "yes") in tuple(await call.initial_metadata())
        assert ("tenant", "acme") in tuple(await call.trailing_metadata())
        assert call.done()
        assert not call.cancel()
        assert 0 < (call.time_remaining() or 0) <= 5
        await until("the callback has run", lambda: finished == [call], within=5)


async def test_many_calls_at_once_each_get_their_own_reply() -> None:
    async with census(LinkWorker()) as stub, asyncio.TaskGroup() as group:

        async def ask(name: str) -> None:
            for _ in range(5):
                assert (await stub.Get(pb.Person(name=name), timeout=10)).name == name

        for n in range(100):
            group.create_task(ask(f"p-{n}"))


async def test_an_entitys_status_is_a_grpc_error_with_its_metadata() -> None:
    async with census(LinkWorker()) as stub:
        error = await refusal(stub.Get(pb.Person(name="abort"), timeout=5))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert error.details() == "no"
        assert ("why", "so") in tuple(error.trailing_metadata() or ())
        assert reason(error) == ""


async def test_a_request_without_a_key_is_refused_before_it_leaves() -> None:
    worker = LinkWorker()
    async with census(worker) as stub:
        error = await refusal(stub.Get(pb.Person(), timeout=5))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason(error) == Reason.BAD_KEY.value
        assert worker.calls == []


async def test_an_unknown_method_says_what_there_is() -> None:
    worker = LinkWorker()
    async with serving(worker), calling(f"127.0.0.1:{worker.port}") as (_, channel):
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/a.B/C")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(b"", timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert reason(caught.value) == Reason.UNKNOWN_METHOD.value
        assert "census.v1.Census" in (caught.value.details() or "")


async def test_streaming_requests_say_that_there_are_none() -> None:
    async with calling(f"127.0.0.1:{free_port()}") as (_, channel):
        method: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary("/a.B/C")
        with pytest.raises(NotImplementedError, match=r"/a\.B/C"):
            method()


async def test_a_callers_key_and_trace_travel_with_the_call() -> None:
    worker = LinkWorker()
    async with census(worker) as stub:
        metadata = (*once("order-7"), ("traceparent", "00-aa-bb-01"))
        await stub.Add(pb.Person(name="ann"), timeout=5, metadata=metadata)
        assert worker.calls[0].request_id == "order-7"
        assert worker.calls[0].traceparent == "00-aa-bb-01"


async def test_without_a_seed_a_call_ends_at_its_deadline_and_says_so() -> None:
    async with calling(f"127.0.0.1:{free_port()}") as (stub, channel):
        assert channel.get_state() is grpc.ChannelConnectivity.CONNECTING
        began = now()
        error = await refusal(stub.Get(pb.Person(name="ann"), timeout=0.3))
        assert 0.25 < now() - began < 2
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert reason(error) == Reason.SEED_NOT_READY.value


async def test_calls_that_wait_for_the_first_routes_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEEDBED_PARKED_CALLS", "2")
    async with calling(f"127.0.0.1:{free_port()}") as (stub, _):
        waiting = [stub.Get(pb.Person(name="ann"), timeout=10) for _ in range(2)]
        error = await refusal(stub.Get(pb.Person(name="ann"), timeout=10))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason(error) == Reason.OVERLOADED.value
        assert "SEEDBED_PARKED_CALLS" in (error.details() or "")
        waiting[0].cancel()
        waiting.append(stub.Get(pb.Person(name="ann"), timeout=10))
        assert not waiting[-1].done()


async def test_what_is_too_large_or_named_too_long_is_refused_before_it_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEEDBED_MAX_MESSAGE_BYTES", "2048")
    worker = LinkWorker()
    async with census(worker) as stub:
        person = pb.Person(name="ann")
        error = await refusal(stub.Get(pb.Person(name="x" * 2048), timeout=5))
        assert reason(error) == Reason.TOO_LARGE.value
        error = await refusal(stub.Get(person, timeout=5, metadata=once("x" * 256)))
        assert reason(error) == Reason.BAD_REQUEST.value
        assert "255" in (error.details() or "")
        assert worker.calls == []


async def test_a_client_is_opened_once() -> None:
    client = Client(f"127.0.0.1:{free_port()}")
    async with client:
        with pytest.raises(RuntimeError, match="open already"):
            await client.__aenter__()
    async with client as channel:  # but again after its end
        assert channel.get_state() is grpc.ChannelConnectivity.CONNECTING


async def test_a_call_waits_for_the_first_seed_and_goes_to_whichever_is_up() -> None:
    worker = LinkWorker()
    port = free_port()
    async with calling(f"127.0.0.1:{free_port()}", f"127.0.0.1:{port}") as (stub, channel):
        call = stub.Get(pb.Person(name="ann"), timeout=10)
        async with serving(worker, port=port):
            assert (await call).name == "ann"
            assert channel.get_state() is grpc.ChannelConnectivity.READY
            await channel.channel_ready()


async def test_a_seed_that_goes_leaves_calls_alone_and_a_seed_that_it_named_is_followed() -> None:
    worker = LinkWorker(routes=False)
    async with serving(worker), contextlib.AsyncExitStack() as second_scope:
        second = LinkWorker(owner=worker)
        await second_scope.enter_async_context(serving(second))
        first = LinkWorker(owner=worker, seeds=(f"127.0.0.1:{second.port}",))
        first_scope = await second_scope.enter_async_context(contextlib.AsyncExitStack())
        await first_scope.enter_async_context(serving(first))
        async with calling(f"127.0.0.1:{first.port}") as (stub, _):
            assert (await stub.Get(pb.Person(name="ann"), timeout=5)).epoch == 5
            worker.epoch = 6
            await first_scope.aclose()
            await until("the other seed is followed", lambda: second.watchers == 1, within=10)
            await until_epoch(stub, 6)
            assert worker.streams == 1


async def until_epoch(stub: rpc.CensusAsyncStub, epoch: int) -> None:
    while (await stub.Get(pb.Person(name="ann"), timeout=5)).epoch != epoch:
        await asyncio.sleep(0.01)


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
