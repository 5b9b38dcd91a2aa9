"""The Link's serving end: batches in, batches out, and what does not belong there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

import pytest
from probe.v1 import probe_pb2 as pb

from seedbed.calls import EntityCall, Failed, Metadata, NotHere, Outcome, Replied
from seedbed.errors import Reason
from seedbed.frames import (
    EXCHANGE,
    IDENTIFY,
    ROLE_KEY,
    call_to_wire,
    parse_replies,
    reply_from_wire,
)
from seedbed.ids import Epoch, Generation
from seedbed.transport import BidiMethod, StatusError, UnaryMethod
from seedbed.v1 import link_pb2
from seedbed_worker.link_server import SHARE, LinkServer
from tests.unit.worker.host_world import GATES, LOG, WAIT_S, World, settle, world

INVALID_ARGUMENT = 3


class FakeCall:
    """A `ServerCall` without a transport."""

    def __init__(self, method: str, metadata: Metadata = ()) -> None:
        self.method = method
        self.metadata = metadata
        self.deadline_ns: int | None = None
        self.peer = "test"

    def set_initial(self, metadata: Metadata) -> None:
        raise AssertionError("a link has no metadata of its own")

    def set_trailing(self, metadata: Metadata) -> None:
        raise AssertionError("a link has no metadata of its own")


class Router:
    """The other end of one Exchange stream; `run` is the transport's task for it."""

    def __init__(self, server: LinkServer, metadata: Metadata = ()) -> None:
        self._to_worker: asyncio.Queue[bytes | None] = asyncio.Queue()
        assert isinstance(server.find(EXCHANGE), BidiMethod)
        batches = server.exchange(FakeCall(EXCHANGE, metadata), self._batches())
        self._from_worker = aclosing(batches)
        self._replies: asyncio.Queue[link_pb2.Reply] = asyncio.Queue()
        self._ended = asyncio.Event()
        self._error: StatusError | None = None
        self.next_id = 1

    async def run(self) -> None:
        """Read what the worker writes."""
        try:
            async with self._from_worker as batches:
                async for data in batches:
                    for reply in parse_replies(data).replies:
                        self._replies.put_nowait(reply)
        except StatusError as error:
            self._error = error
        finally:
            self._ended.set()

    async def _batches(self) -> AsyncIterator[bytes]:
        while (data := await self._to_worker.get()) is not None:
            yield data

    def write(self, data: bytes | None) -> None:
        """Send a message; None ends this side."""
        self._to_worker.put_nowait(data)

    def send(self, *calls: EntityCall, credit: int = 0) -> list[int]:
        """Send calls in one batch; returns their ids."""
        batch = link_pb2.CallBatch()
        ids: list[int] = []
        for call in calls:
            ids.append(self.next_id)
            now_ns = (call.deadline_ns or 0) - 60 * 10**9
            wire = batch.calls.add()
            call_to_wire(call, wire, id_=self.next_id, now_ns=now_ns, credit=credit)
            self.next_id += 1
        self.write(batch.SerializeToString())
        return ids

    async def reply(self) -> tuple[int, Outcome | bytes]:
        """The next reply and whose it is."""
        wire = await asyncio.wait_for(self._replies.get(), WAIT_S)
        return wire.id, reply_from_wire(wire)

    async def end(self) -> StatusError | None:
        """Wait until the worker ends the stream; how it did."""
        await asyncio.wait_for(self._ended.wait(), WAIT_S)
        return self._error


class Linked(NamedTuple):
    """A world, one router's stream to it, and the transport's task for that."""

    w: World
    router: Router
    transport: asyncio.Task[None]


@asynccontextmanager
async def linked(*, seed: bool = True) -> AsyncGenerator[Linked]:
    async with world() as w, asyncio.TaskGroup() as tasks:
        server = LinkServer(w.host, clock=w.clock, node_id="w-1")
        router = Router(server, ((ROLE_KEY, "seed"),) if seed else ())
        transport = tasks.create_task(router.run())
        await settle()
        yield Linked(w, router, transport)
        transport.cancel()


def total(outcome: Outcome | bytes) -> int:
    data = outcome if isinstance(outcome, bytes) else None
    if data is None:
        assert isinstance(outcome, Replied), outcome
        data = outcome.response
    return pb.Reply.FromString(data).total


async def test_calls_of_one_batch_are_all_answered() -> None:
    async with linked() as (w, router, _):
        ids = router.send(*(w.call("Write", key, amount=2) for key in "abc"))
        replies = dict([await router.reply() for _ in ids])
        assert {id_: total(reply) for id_, reply in replies.items()} == dict.fromkeys(ids, 2)
        assert all(isinstance(r, Replied) and r.epoch == 1 for r in replies.values())


async def test_replies_to_a_large_batch_leave_before_all_of_it_has_begun() -> None:
    async with linked() as (w, router, _):
        ids = router.send(*(w.call("Write", f"k{n}", amount=1) for n in range(8 * SHARE)))
        first, _ = await router.reply()
        begun = sum(line.startswith("begin") for line in LOG)
        assert first == ids[0]
        assert SHARE <= begun < 8 * SHARE
        assert sorted([first, *[(await router.reply())[0] for _ in ids[1:]]]) == ids


async def test_a_slow_call_does_not_hold_up_others() -> None:
    async with linked() as (w, router, _):
        slow, fast = router.send(w.call("Write", "a", gate="g"), w.call("Write", "b"))
        assert (await router.reply())[0] == fast
        GATES.open("g")
        assert (await router.reply())[0] == slow


async def test_what_is_not_ours_is_answered_with_the_generation() -> None:
    async with linked() as (w, router, _):
        w.place("other")
        router.send(w.call("Write"))
        assert (await router.reply())[1] == NotHere(Generation(2))


async def test_a_type_that_is_not_hosted_here_is_not_ours_either() -> None:
    async with linked() as (w, router, _):
        call = w.call("Write")
        call.type = "else"
        router.send(call)
        assert isinstance((await router.reply())[1], NotHere)


async def test_errors_keep_their_reason() -> None:
    async with linked() as (w, router, _):
        router.send(w.call("Missing"))
        _, reply = await router.reply()
        assert isinstance(reply, Failed)
        assert reply.reason is Reason.UNKNOWN_METHOD


async def test_a_stream_sends_no_more_than_its_credit() -> None:
    async with linked() as (w, router, _):
        (id_,) = router.send(w.call("Watch"), credit=1)
        assert await router.reply() == (id_, b"")
        for _ in range(3):
            await w.write()
            await settle()
        router.write(
            link_pb2.CallBatch(credits=[link_pb2.Credit(id=id_, items=2)]).SerializeToString()
        )
        assert [total((await router.reply())[1]) for _ in range(2)] == [1, 3]


async def test_a_cancelled_call_in_line_never_runs_and_a_running_one_ends() -> None:
    async with linked() as (w, router, _):
        running, queued = router.send(
            w.call("Write", amount=1, gate="g"), w.call("Write", amount=5)
        )
        await GATES.reach("g")
        router.write(link_pb2.CallBatch(cancels=[running, queued]).SerializeToString())
        await settle()
        GATES.open("g")
        await settle()
        assert (await w.read()).total == 1
        assert w.host.rt.calls == 0


async def test_a_cancelled_stream_ends() -> None:
    async with linked() as (w, router, _):
        (id_,) = router.send(w.call("Watch"), credit=5)
        await router.reply()
        router.write(link_pb2.CallBatch(cancels=[id_]).SerializeToString())
        await settle()
        assert w.host.rt.streams == 0


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
