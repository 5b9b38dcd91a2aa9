"""What the client makes of answers that never came: sent once, in doubt, resolved by reading."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from seedbed_seed.etcd import EtcdStore
from seedbed_seed.store import (
    Get,
    LeaseExists,
    Put,
    Store,
    StoreUnreachable,
    WriteInDoubt,
)
from tests.support.etcd import etcd_cluster
from tests.support.mirror import mirror
from tests.support.proxy import proxy
from tests.support.waiting import now, until

pytestmark = pytest.mark.integration


async def test_a_write_whose_reply_is_lost_is_in_doubt_and_never_sent_again(
    tmp_path: Path,
) -> None:
    async with (
        etcd_cluster(1, tmp_path) as etcd,
        etcd.store() as direct,
        proxy(etcd.members[0].port) as between,
        EtcdStore([between.endpoint]) as store,
    ):
        before = await store.write(Put("/w/a", b"0"))
        between.swallow_replies = True
        with pytest.raises(WriteInDoubt):
            await store.write(Put("/w/a", b"1"), timeout=0.5)
        between.cut()
        between.swallow_replies = False
        (entries,) = (await store.read(Get("/w/a"))).answers
        assert (entries[0].value, entries[0].mod_revision) == (b"1", before.revision + 1)
        await between_is_idle(store)
        assert (await direct.read(Get("/w/a"))).revision == before.revision + 1

        between.swallow_requests = True
        with pytest.raises(WriteInDoubt):
            await store.write(Put("/w/a", b"2"), timeout=0.5)
        between.swallow_requests = False
        between.cut()
        assert (await store.read(Get("/w/a"))).revision == before.revision + 1


async def between_is_idle(store: Store) -> None:
    """Give a client that would send again every occasion to do so."""
    for _ in range(20):
        await store.read(Get("/"))


async def test_a_reply_cut_off_in_mid_write_is_in_doubt_too(tmp_path: Path) -> None:
    async with (
        etcd_cluster(1, tmp_path) as etcd,
        proxy(etcd.members[0].port) as between,
        EtcdStore([between.endpoint]) as store,
    ):
        before = await store.write(Put("/w/a", b"0"))
        between.swallow_replies = True
        sent = between.requests_bytes
        async with asyncio.TaskGroup() as tasks:

            async def write() -> None:
                with pytest.raises(WriteInDoubt):
                    await store.write(Put("/w/a", b"1"), timeout=5)

            tasks.create_task(write())
            await until("it was sent", lambda: between.requests_bytes > sent, within=5)
            between.cut()
        between.swallow_replies = False
        assert (await store.read(Get("/w/a"))).revision <= before.revision + 1


async def test_a_write_that_never_left_is_not_in_doubt(tmp_path: Path) -> None:
    async with (
        etcd_cluster(1, tmp_path) as etcd,
        proxy(etcd.members[0].port) as between,
        EtcdStore([between.endpoint]) as store,
    ):
        before = await store.write(Put("/w/a", b"0"))
        between.refuse = True
        between.cut()
        # The first one may meet the broken connection; from then on the client knows.
        with pytest.raises((StoreUnreachable, WriteInDoubt)):
            await store.write(Put("/w/a", b"1"), timeout=0.5)
        for _ in range(2):
            began = now()
            with pytest.raises(StoreUnreachable):
                await store.write(Put("/w/a", b"1"), timeout=0.5)
            assert now() - began < 1
        between.refuse = False
        assert (await store.write(Put("/w/a", b"2"))).revision == before.revision + 1


async def test_a_grant_whose_answer_is_lost_is_recognised(tmp_path: Path) -> None:
    async with (
        etcd_cluster(1, tmp_path) as etcd,
        proxy(etcd.members[0].port) as between,
        EtcdStore([between.endpoint]) as store,
    ):
        await store.read(Get("/"))
        between.swallow_replies = True
        with pytest.raises(WriteInDoubt):
            await store.grant(9, 30, timeout=0.5)
        between.cut()
        between.swallow_replies = False
        with pytest.raises(LeaseExists):
            await store.grant(9, 30)
        assert await store.renew(9) == 30


async def test_one_keepalive_stream_renews_all_leases(tmp_path: Path) -> None:
    leases = range(1, 201)
    async with (
        etcd_cluster(1, tmp_path) as etcd,
        proxy(etcd.members[0].port) as between,
        EtcdStore([between.endpoint]) as store,
    ):
        for lease in leases:
            await store.grant(lease, 30)
        async with asyncio.TaskGroup() as tasks:
            renewals = [tasks.create_task(store.renew(lease, timeout=5)) for lease in leases]
        assert [renewal.result() for renewal in renewals] == [30] * len(leases)
        assert await store.renew(201) == 0
        assert between.connections == 1


async def test_a_slow_network_is_only_slow(tmp_path: Path) -> None:
    async with (
        etcd_cluster(1, tmp_path) as etcd,
        proxy(etcd.members[0].port) as between,
        EtcdStore([between.endpoint]) as store,
        mirror(store, "/w/") as seen,
    ):
        await store.grant(1, 30)
        between.delay_s = 0.15
        for number in range(3):
            await store.write(Put(f"/w/{number}", b""))
            assert await store.renew(1) == 30
        await until("three changes", lambda: len(seen.changes) == 3, within=5)
        assert between.connections <= 2
