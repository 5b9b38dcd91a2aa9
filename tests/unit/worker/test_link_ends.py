"""How a Link's stream ends, what does not belong there, and whose word counts."""

from __future__ import annotations

import pytest
from probe.v1 import probe_pb2 as pb

from seedbed.calls import NotHere, Replied
from seedbed.frames import (
    IDENTIFY,
)
from seedbed.ids import Epoch, Generation
from seedbed.transport import StatusError, UnaryMethod
from seedbed.v1 import link_pb2
from seedbed_worker.link_server import LinkServer
from tests.unit.worker.host_world import GATES, LOG, settle, world
from tests.unit.worker.link_world import FakeCall, Router, linked, total

INVALID_ARGUMENT = 3


async def test_a_router_that_goes_away_cancels_no_turn_and_drops_what_waits() -> None:
    async with linked() as (w, router, transport):
        router.send(w.call("Write", amount=1, gate="g"), w.call("Write", amount=5))
        router.send(w.call("Watch", "b"), credit=5)
        await GATES.reach("g")
        await router.reply()
        transport.cancel()
        await settle()
        GATES.open("g")
        await settle()
        assert (await w.read()).total == 1
        assert (w.host.rt.calls, w.host.rt.streams) == (0, 0)


async def test_the_stream_ends_when_the_router_has_ended_and_all_is_answered() -> None:
    async with linked() as (w, router, _):
        router.send(w.call("Write", gate="g"))
        await GATES.reach("g")
        router.write(None)
        GATES.open("g")
        assert await router.end() is None
        assert total((await router.reply())[1]) == 0


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xff\xff",
        b"",
        b"\xfa\x01\x03abc",
        link_pb2.CallBatch(calls=[link_pb2.Call(id=1)]).SerializeToString(),
    ],
    ids=["no protobuf", "empty", "unknown kind", "call without a method"],
)
async def test_garbage_ends_its_stream_and_touches_nothing_else(garbage: bytes) -> None:
    async with linked() as (w, router, _):
        other = Router(LinkServer(w.host, clock=w.clock, node_id="w-1"))
        other.write(garbage)
        await other.run()
        error = await other.end()
        assert error is not None
        assert error.code == INVALID_ARGUMENT
        router.send(w.call("Write", amount=1))
        assert total((await router.reply())[1]) == 1


async def test_two_calls_with_one_id_are_garbage() -> None:
    async with linked() as (w, router, _):
        router.send(w.call("Write", gate="g"))
        await GATES.reach("g")
        router.next_id = 1
        router.send(w.call("Write"))
        assert await router.end()
        GATES.open("g")


@pytest.mark.parametrize("seed", [True, False])
async def test_only_a_seeds_word_about_callers_and_epochs_counts(seed: bool) -> None:
    async with linked(seed=seed) as (w, router, _):
        router.send(w.call("Act", how="turn"))
        _, reply = await router.reply()
        assert isinstance(reply, Replied)
        assert ("spiffe://x" in pb.Reply.FromString(reply.response).text) is seed
        ahead = w.call("Write")
        ahead.epoch, ahead.generation = Epoch(9), Generation(1)
        router.send(ahead)
        await settle()
        if seed:
            assert len(w.host.holds) == 1
        else:
            assert isinstance((await router.reply())[1], NotHere)


async def test_identify_says_who_serves() -> None:
    async with world() as w:
        method = LinkServer(w.host, clock=w.clock, node_id="w-1").find(IDENTIFY)
        assert isinstance(method, UnaryMethod)
        call = FakeCall(IDENTIFY)
        said = link_pb2.IdentifyResponse.FromString(await method.handler(call, b""))
        assert (said.node_id, said.incarnation) == ("w-1", "me")
        w.region.fence()
        said = link_pb2.IdentifyResponse.FromString(await method.handler(call, b""))
        assert (said.node_id, said.incarnation) == ("w-1", "")
        with pytest.raises(StatusError):
            await method.handler(call, b"\xff")


async def test_other_paths_are_not_the_links() -> None:
    async with world() as w:
        server = LinkServer(w.host, clock=w.clock, node_id="w-1")
        assert server.find("/seedbed.v1.Link/Other") is None
        assert LOG == []
