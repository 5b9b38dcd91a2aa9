"""The client against an etcd that does what the test says: rules about single messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from seedbed_seed.etcd import EtcdStore
from seedbed_seed.etcd import wire_pb2 as wire
from seedbed_seed.store import (
    Changes,
    Put,
    Snapshot,
    StoreError,
    StoreFull,
    StoreUnreachable,
    WatchUpdate,
    WriteInDoubt,
)
from tests.support.fake_etcd import (
    FakeEtcd,
    LeaseContext,
    WatchContext,
    WatchStream,
    fake_etcd,
    header,
    silent,
)
from tests.support.waiting import until

pytestmark = pytest.mark.integration

LISTED = 3
"""Revision of the fake's listings: a watch begins at the next."""


async def take(updates: AsyncIterator[WatchUpdate], count: int) -> list[WatchUpdate]:
    async with asyncio.timeout(10):
        return [await anext(updates) for _ in range(count)]


async def broken(stream: WatchStream) -> None:
    await stream.context.abort(grpc.StatusCode.UNAVAILABLE, "cut")


async def test_a_stream_broken_right_after_created_resumes_where_the_listing_ended() -> None:
    async def created_then_broken(stream: WatchStream) -> None:
        await stream.created(100)
        await broken(stream)

    async def all_from_the_start(stream: WatchStream) -> None:
        await stream.created(100)
        await stream.event(4, "/a", at=100)
        await asyncio.Event().wait()

    async with fake_etcd() as fake, EtcdStore([fake.endpoint]) as store:
        fake.watches.clear()
        fake.watches.extend([created_then_broken, created_then_broken, all_from_the_start])
        async with store.watch("/") as updates:
            first, second = await take(updates, 2)
        assert fake.starts == [LISTED + 1] * 3
        assert isinstance(first, Snapshot)
        assert isinstance(second, Changes)
        assert second.revision == 4


async def test_a_watch_resumes_after_its_last_event_and_not_after_its_last_header() -> None:
    async def one_event_then_broken(stream: WatchStream) -> None:
        await stream.created(100)
        await stream.event(5, "/a", at=100)
        await broken(stream)

    async with fake_etcd() as fake, EtcdStore([fake.endpoint]) as store:
        fake.watches.clear()
        fake.watches.extend([one_event_then_broken, silent])
        async with store.watch("/") as updates:
            _, event = await take(updates, 2)
            assert event.revision == 5
            await until("a new stream", lambda: len(fake.starts) == 2, within=5)
        assert fake.starts == [LISTED + 1, 6]


async def test_fragments_are_put_together_and_half_of_them_never_passed_on() -> None:
    async def half_then_broken(stream: WatchStream) -> None:
        await stream.created(LISTED)
        await stream.event(4, "/a", at=4, fragment=True)
        await broken(stream)

    async def whole(stream: WatchStream) -> None:
        await stream.created(LISTED)
        await stream.event(4, "/a", at=4, fragment=True)
        await stream.event(4, "/b", at=4)
        await asyncio.Event().wait()

    async with fake_etcd() as fake, EtcdStore([fake.endpoint]) as store:
        fake.watches.clear()
        fake.watches.extend([half_then_broken, whole])
        async with store.watch("/") as updates:
            _, changes = await take(updates, 2)
        assert isinstance(changes, Changes)
        assert len(changes.changes) == 2
        assert fake.starts == [LISTED + 1] * 2


async def test_a_watch_that_is_refused_is_seen_although_it_says_created() -> None:
    async def refused(stream: WatchStream) -> None:
        await stream.send(
            wire.WatchResponse(
                header=header(LISTED), created=True, canceled=True, cancel_reason="no permission"
            )
        )
        await asyncio.Event().wait()

    async def compacted(stream: WatchStream) -> None:
        await stream.send(
            wire.WatchResponse(
                header=header(LISTED), created=True, canceled=True, compact_revision=9
            )
        )
        await asyncio.Event().wait()

    async with fake_etcd() as fake, EtcdStore([fake.endpoint]) as store:
        fake.watches.clear()
        fake.watches.extend([refused, compacted, silent])
        async with store.watch("/") as updates:
            first, second = await take(updates, 2)
            await until("a third stream", lambda: len(fake.starts) == 3, within=2)
        assert isinstance(first, Snapshot)
        assert isinstance(second, Snapshot)
        assert not second.restored


async def test_a_stream_that_leaves_progress_unanswered_is_torn_down() -> None:
    asked = asyncio.Event()

    async def deaf(stream: WatchStream) -> None:
        await stream.created(LISTED + 1)
        async for _ in stream.requests:
            asked.set()

    async with fake_etcd() as fake, EtcdStore([fake.endpoint]) as store:
        fake.watches.clear()
        fake.watches.append(deaf)
        async with store.watch("/"):
            await until("a second stream", lambda: len(fake.starts) == 2, within=6)
        assert asked.is_set(), "progress was never asked for"


async def test_silence_is_no_idleness_once_a_read_tells_of_changes() -> None:
    async with fake_etcd() as fake, EtcdStore([fake.endpoint]) as store:

        async def not_there_yet(stream: WatchStream) -> None:
            await stream.created(LISTED)
            await asyncio.Event().wait()

        fake.watches.clear()
        fake.watches.append(not_there_yet)
        async with store.watch("/") as updates:
            # No progress is answered before the store reaches the start, and none is needed.
            assert await take(updates, 4) == [Snapshot(LISTED, ()), *[Changes(LISTED)] * 3]
            assert len(fake.starts) == 1
            fake.revision = 10
            await until("a second stream", lambda: len(fake.starts) == 2, within=6)


async def test_progress_moves_the_place_of_an_idle_watch() -> None:
    async def answers_once(stream: WatchStream) -> None:
        await stream.created(LISTED + 1)
        await anext(stream.requests)
        await stream.send(wire.WatchResponse(header=header(50), watch_id=-1))
        await broken(stream)

    async with fake_etcd() as fake, EtcdStore([fake.endpoint]) as store:
        fake.watches.clear()
        fake.watches.extend([answers_once, silent])
        async with store.watch("/") as updates:
            _, progress = await take(updates, 2)
            assert progress == Changes(50)
            await until("a new stream", lambda: len(fake.starts) == 2, within=5)
        assert fake.starts == [LISTED + 1, 51]


async def test_watch_and_keepalive_ask_for_a_leader() -> None:
    seen: list[dict[str, str]] = []

    def metadata(context: WatchContext | LeaseContext) -> None:
        pairs = context.invocation_metadata() or ()
        seen.append({str(key): str(value) for key, value in pairs})

    async def watch(stream: WatchStream) -> None:
        metadata(stream.context)
        await silent(stream)

    async def keepalive(
        requests: AsyncIterator[wire.LeaseKeepAliveRequest], context: LeaseContext
    ) -> None:
        metadata(context)
        async for request in requests:
            await context.write(wire.LeaseKeepAliveResponse(id=request.id, ttl=5))

    async with fake_etcd() as fake, EtcdStore([fake.endpoint]) as store:
        fake.watches.clear()
        fake.watches.append(watch)
        fake.keepalive = keepalive
        async with store.watch("/"):
            assert await store.renew(1) == 5
            await until("the watch", lambda: len(seen) == 2, within=5)
    assert all(pairs.get("hasleader") == "true" for pairs in seen)


class KeepAliveServer:
    """Answers renewals only when the test lets it."""

    def __init__(self, fake: FakeEtcd) -> None:
        fake.keepalive = self.serve
        self.received: list[int] = []
        self.streams = 0
        self.let = asyncio.Semaphore(0)

    async def serve(
        self, requests: AsyncIterator[wire.LeaseKeepAliveRequest], context: LeaseContext
    ) -> None:
        self.streams += 1
        async for request in requests:
            self.received.append(request.id)
            await self.let.acquire()
            await context.write(wire.LeaseKeepAliveResponse(id=request.id, ttl=len(self.received)))


async def test_a_renewal_is_never_answered_by_an_earlier_one() -> None:
    async with fake_etcd() as fake, EtcdStore([fake.endpoint]) as store:
        server = KeepAliveServer(fake)
        with pytest.raises(StoreUnreachable):
            await store.renew(7, timeout=0.2)
        assert server.received == [7]
        async with asyncio.TaskGroup() as tasks:
            second = tasks.create_task(store.renew(7, timeout=5))
            third = tasks.create_task(store.renew(7, timeout=5))
            server.let.release()
            await until("a second renewal", lambda: server.received == [7, 7], within=2)
            assert not second.done()
            assert not third.done()
            server.let.release()
        # Both came while the first was under way; the second renewal answers both.
        assert (second.result(), third.result()) == (2, 2)
        assert server.received == [7, 7]
        assert server.streams == 1


async def test_renewals_of_one_lease_are_sent_one_after_the_other() -> None:
    async with fake_etcd() as fake, EtcdStore([fake.endpoint]) as store:
        server = KeepAliveServer(fake)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(store.renew(7, timeout=5))
            await until("a renewal", lambda: server.received == [7], within=2)
            later = [tasks.create_task(store.renew(7, timeout=5)) for _ in range(10)]
            server.let.release()
            server.let.release()
        assert first.result() == 1
        assert {renewal.result() for renewal in later} == {2}


async def test_nothing_is_renewed_for_a_caller_who_gave_up() -> None:
    async with fake_etcd() as fake, EtcdStore([fake.endpoint]) as store:
        server = KeepAliveServer(fake)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(store.renew(7, timeout=5))
            await until("a renewal", lambda: server.received == [7], within=2)
            with pytest.raises(StoreUnreachable):
                await store.renew(7, timeout=0.1)
            server.let.release()
        async with asyncio.TaskGroup() as tasks:
            other = tasks.create_task(store.renew(8, timeout=5))
            server.let.release()
        assert other.result() == 2
        assert server.received == [7, 8]


async def test_a_silent_keepalive_stream_is_torn_down_and_the_renewal_sent_again() -> None:
    async with fake_etcd() as fake, EtcdStore([fake.endpoint]) as store:
        server = KeepAliveServer(fake)
        async with asyncio.TaskGroup() as tasks:
            renewal = tasks.create_task(store.renew(7, timeout=5))
            await until("a second stream", lambda: server.streams == 2, within=4)
            server.let.release()
            server.let.release()
        assert renewal.result() == 2
        assert server.received == [7, 7]


@pytest.mark.parametrize(
    ("code", "text", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out", WriteInDoubt),
        (grpc.StatusCode.UNAVAILABLE, "etcdserver: leader changed", WriteInDoubt),
        (grpc.StatusCode.CANCELLED, "reset", WriteInDoubt),
        (grpc.StatusCode.UNKNOWN, "raft proposal dropped", WriteInDoubt),
        (grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader", StoreUnreachable),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "etcdserver: mvcc: database space exceeded",
            StoreFull,
        ),
        (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied", StoreError),
    ],
)
async def test_a_write_that_fails_is_sent_once(
    code: grpc.StatusCode, text: str, error: type[StoreError]
) -> None:
    async with fake_etcd() as fake, EtcdStore([fake.endpoint, fake.endpoint]) as store:
        fake.refuse_writes_with = (code, text)
        with pytest.raises(error) as caught:
            await store.write(Put("/a", b""))
        assert type(caught.value) is error
        assert fake.transactions == 1
        assert store.full() is (error is StoreFull)
