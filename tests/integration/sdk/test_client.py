"""The routing client: what its calls do and say."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from census.v1 import census_pb2 as pb

from seedbed.errors import Reason
from seedbed.helpers import once
from seedbed.status import reason
from tests.integration.sdk.client_world import (
    calling,
    census,
    refusal,
)
from tests.integration.sdk.link_worker import LinkWorker, serving
from tests.support.etcd import free_port
from tests.support.waiting import until

pytestmark = pytest.mark.integration


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
