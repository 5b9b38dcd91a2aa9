"""The routing client before it has routes, and when its seeds come and go."""

from __future__ import annotations

import contextlib

import grpc
import pytest
from census.v1 import census_pb2 as pb

from seedbed.client import Client
from seedbed.errors import Reason
from seedbed.helpers import once
from seedbed.status import reason
from tests.integration.sdk.client_world import (
    calling,
    census,
    refusal,
    until_epoch,
)
from tests.integration.sdk.link_worker import LinkWorker, serving
from tests.support.etcd import free_port
from tests.support.waiting import now, until

pytestmark = pytest.mark.integration


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
