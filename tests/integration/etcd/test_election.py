"""Elections, over both stores, and over an etcd that fails meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from seedbed_seed.election import Leadership, LeadershipLost, campaign, candidate_key
from seedbed_seed.etcd import EtcdStore
from seedbed_seed.memory_store import MemoryStore
from seedbed_seed.store import Delete, Get, LeaseNotFound, Put, Store
from tests.support.etcd import etcd_cluster
from tests.support.proxy import proxy
from tests.support.waiting import now, until

PREFIX = "/election"


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.integration)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Store, None]:
    if request.param == "memory":
        async with MemoryStore() as memory:
            yield memory
    else:
        async with etcd_cluster(1, tmp_path, fast=True) as etcd, etcd.store() as real:
            yield real


class Candidate:
    """Campaigns once, and leads until it is told to resign."""

    def __init__(self, lease: int) -> None:
        self.lease = lease
        self.leads: Leadership | None = None
        self.lost = False
        self.resign = asyncio.Event()

    async def run(self, store: Store) -> None:
        try:
            async with campaign(store, PREFIX, self.lease, b"%d" % self.lease) as leads:
                self.leads = leads
                await self.resign.wait()
        except LeadershipLost:
            self.lost = True
        finally:
            self.leads = None


async def stood(store: Store, lease: int) -> None:
    """Wait until a candidate's key is there."""
    async with asyncio.timeout(5):
        while not (await store.read(Get(candidate_key(PREFIX, lease)))).answers[0]:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def candidates(store: Store, *leases: int) -> AsyncGenerator[list[Candidate], None]:
    """Candidates that stood in this order."""
    running = [Candidate(lease) for lease in leases]
    async with asyncio.TaskGroup() as tasks:
        started: list[asyncio.Task[None]] = []
        try:
            for candidate in running:
                await store.grant(candidate.lease, 30)
                started.append(tasks.create_task(candidate.run(store)))
                await stood(store, candidate.lease)
            yield running
        finally:
            for task in started:
                task.cancel()


async def test_three_candidates_lead_one_after_the_other(store: Store) -> None:
    async with candidates(store, 3, 1, 2) as (first, second, third):
        await until("the first leads", lambda: first.leads is not None, within=5)
        assert first.leads is not None
        assert first.leads.key == candidate_key(PREFIX, 3)
        assert first.leads.elected_revision >= first.leads.revision
        guarded = await store.write(Put("/work", b"1"), when=[first.leads.guard])
        assert guarded.succeeded
        assert second.leads is None
        assert third.leads is None

        old = first.leads.guard
        first.resign.set()
        await until("the second leads", lambda: second.leads is not None, within=5)
        assert third.leads is None
        assert not (await store.write(Put("/work", b"2"), when=[old])).succeeded
        assert second.leads is not None
        assert (await store.write(Put("/work", b"3"), when=[second.leads.guard])).succeeded

        await store.revoke(second.lease)
        await until("the third leads", lambda: third.leads is not None, within=5)
        await until("the second noticed", lambda: second.lost, within=5)
        assert not first.lost


async def test_a_candidate_that_gives_up_wakes_nobody_wrongly(store: Store) -> None:
    async with candidates(store, 1, 2, 3) as (first, second, third):
        await until("the first leads", lambda: first.leads is not None, within=5)
        await store.revoke(second.lease)
        await until("the second noticed while it waited", lambda: second.lost, within=5)
        await store.write(Put("/w", b""))
        assert third.leads is None
        assert first.leads is not None
        await store.revoke(first.lease)
        await until("the third leads", lambda: third.leads is not None, within=5)


async def test_lost_leadership_cancels_the_body(store: Store) -> None:
    await store.grant(1, 30)

    async def lead() -> None:
        async with campaign(store, PREFIX, 1, b"") as leads:
            await store.write(Delete(leads.key))
            await asyncio.Event().wait()

    async with asyncio.timeout(10):
        with pytest.raises(LeadershipLost):
            await lead()


async def test_the_end_of_the_scope_resigns_whatever_ended_it(store: Store) -> None:
    await store.grant(1, 30)

    async def keys() -> int:
        return len((await store.read(Get(PREFIX, prefix=True))).answers[0])

    async with campaign(store, PREFIX, 1, b""):
        assert await keys() == 1
    assert await keys() == 0
    with pytest.raises(ZeroDivisionError):
        async with campaign(store, PREFIX, 1, b""):
            raise ZeroDivisionError
    assert await keys() == 0
    with pytest.raises(TimeoutError):
        async with campaign(store, PREFIX, 1, b""), asyncio.timeout(0.05):
            await asyncio.Event().wait()
    assert await keys() == 0
    async with campaign(store, PREFIX, 1, b""):
        await store.grant(2, 30)
        waiting: AbstractAsyncContextManager[Leadership] = campaign(store, PREFIX, 2, b"")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), waiting:
                pass
        assert await keys() == 1


async def test_a_candidate_finds_the_key_it_left_and_says_its_new_value(store: Store) -> None:
    await store.grant(1, 30)
    left = await store.write(Put(candidate_key(PREFIX, 1), b"old", 1))
    async with campaign(store, PREFIX, 1, b"new") as leads:
        assert leads.revision == left.revision
        ((entry,),) = (await store.read(Get(leads.key))).answers
        assert (entry.value, entry.lease) == (b"new", 1)


async def test_a_campaign_under_an_ended_lease_says_so(store: Store) -> None:
    with pytest.raises(LeaseNotFound):
        async with campaign(store, PREFIX, 77, b""):
            pass


async def test_a_name_that_begins_with_another_is_another_election(store: Store) -> None:
    await store.grant(1, 30)
    await store.grant(2, 30)
    async with asyncio.timeout(5):
        async with campaign(store, PREFIX, 1, b""), campaign(store, f"{PREFIX}2", 2, b""):
            pass


@pytest.mark.integration
async def test_a_claim_whose_reply_is_lost_is_found_again(tmp_path: Path) -> None:
    async with (
        etcd_cluster(1, tmp_path) as etcd,
        etcd.store() as direct,
        proxy(etcd.members[0].port) as between,
        EtcdStore([between.endpoint], timeout_s=0.5) as store,
    ):
        await store.grant(1, 30)
        before = (await store.read(Get("/"))).revision
        between.swallow_replies = True
        async with asyncio.TaskGroup() as tasks:
            candidate = Candidate(1)
            running = tasks.create_task(candidate.run(store))
            await stood(direct, 1)
            between.cut()
            between.swallow_replies = False
            await until("it leads", lambda: candidate.leads is not None, within=10)
            assert candidate.leads is not None
            assert candidate.leads.revision == before + 1
            assert (await direct.read(Get("/"))).revision == before + 1
            running.cancel()


@pytest.mark.integration
async def test_a_campaign_given_up_in_doubt_leaves_no_key_behind(tmp_path: Path) -> None:
    async with (
        etcd_cluster(1, tmp_path) as etcd,
        etcd.store() as direct,
        proxy(etcd.members[0].port) as between,
        EtcdStore([between.endpoint]) as store,
    ):
        await store.grant(1, 30)
        between.swallow_replies = True
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(Candidate(1).run(store))
            await stood(direct, 1)
            running.cancel()
            between.cut()
            between.swallow_replies = False
        assert not (await direct.read(Get(PREFIX, prefix=True))).answers[0]


@pytest.mark.integration
async def test_the_leader_dies_with_an_etcd_member_and_another_takes_over(tmp_path: Path) -> None:
    async with etcd_cluster(3, tmp_path, fast=True) as etcd:
        victim = await etcd.leader()
        others = [index for index in range(3) if index != victim]
        async with (
            etcd.store(first=victim) as dying,
            etcd.store(members=others) as living,
        ):
            first, second = Candidate(1), Candidate(2)
            await dying.grant(1, 2)
            await living.grant(2, 60)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(first.run(dying))
                await until("the first leads", lambda: first.leads is not None, within=5)
                assert first.leads is not None
                guard = first.leads.guard
                waiting = tasks.create_task(second.run(living))
                await stood(living, 2)
                etcd.members[victim].kill()
                killed = now()
                # The first one's lease is renewed by nobody: TTL, and once more TTL + election,
                # because a new etcd leader starts all leases anew.
                await until("the second leads", lambda: second.leads is not None, within=9)
                assert now() - killed < 2 * 2 + 0.5 + 1 + 3
                await until("the first noticed", lambda: first.lost, within=5)
                assert not (await dying.write(Put("/w", b""), when=[guard], timeout=5)).succeeded
                waiting.cancel()
