"""An etcd that goes back in time is noticed, and listed anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from seedbed_seed.etcd import EtcdStore
from seedbed_seed.store import (
    Put,
)
from tests.support.etcd import etcd_cluster
from tests.support.mirror import mirror
from tests.support.proxy import proxy
from tests.support.waiting import until

pytestmark = pytest.mark.integration


async def test_a_restored_store_is_noticed_and_listed_anew(tmp_path: Path) -> None:
    async with etcd_cluster(1, tmp_path / "etcd") as etcd, etcd.store() as store:
        await store.write(Put("/w/old", b"1"))
        await etcd.snapshot(tmp_path / "copy")
        async with mirror(store, "/w/") as seen:
            await store.write(Put("/w/old", b"2"))
            lost = await store.write(Put("/w/lost", b""))
            await until("both", lambda: seen.revision >= lost.revision, within=5)
            await etcd.restore(tmp_path / "copy")
            await until("a second snapshot", lambda: len(seen.snapshots) == 2, within=10)
            assert seen.snapshots[1].restored
            assert seen.snapshots[1].revision < lost.revision
            assert [(e.key, e.value) for e in seen.entries.values()] == [("/w/old", b"1")]
            seen.revision = 0
            await store.write(Put("/w/new", b""))
            await until("the next change", lambda: "/w/new" in seen.entries, within=5)
            # An ordinary break afterwards is no second restoration.
            etcd.members[0].kill()
            await etcd.members[0].start()
            await store.write(Put("/w/newer", b""), timeout=5)
            await until("the last change", lambda: "/w/newer" in seen.entries, within=5)
            assert len(seen.snapshots) == 2


async def test_a_read_alone_notices_a_restored_store_for_an_idle_watch(tmp_path: Path) -> None:
    async with etcd_cluster(1, tmp_path / "etcd") as etcd, etcd.store() as store:
        await store.write(Put("/w/old", b"1"))
        await etcd.snapshot(tmp_path / "copy")
        async with mirror(store, "/w/") as seen:
            await until("a snapshot", lambda: bool(seen.snapshots), within=5)
            # Not under the watched prefix: only the store's revision says that it fell.
            await store.write(Put("/elsewhere", b""))
            await store.write(Put("/elsewhere", b""))
            await etcd.restore(tmp_path / "copy")
            await until("a second snapshot", lambda: len(seen.snapshots) == 2, within=10)
            assert seen.snapshots[1].restored


@pytest.mark.parametrize("compacted", [False, True], ids=["kept", "compacted"])
async def test_a_restored_store_is_noticed_although_it_was_written_past_the_place(
    tmp_path: Path, *, compacted: bool
) -> None:
    async with etcd_cluster(1, tmp_path / "etcd") as etcd, etcd.store() as direct:
        await direct.write(Put("/w/old", b"1"))
        await etcd.snapshot(tmp_path / "copy")
        async with (
            proxy(etcd.members[0].port) as between,
            EtcdStore([between.endpoint]) as store,
            mirror(store, "/w/") as seen,
        ):
            lost = await direct.write(Put("/w/old", b"2"))
            await until("the lost change", lambda: seen.revision >= lost.revision, within=5)
            between.refuse = True
            between.cut()
            await etcd.restore(tmp_path / "copy")
            same = await direct.write(Put("/w/old", b"3"), timeout=5)
            assert same.revision == lost.revision, "nothing tells the two apart but the value"
            last = await direct.write(Put("/w/new", b""))
            if compacted:
                await etcd.compact(last.revision)
            between.refuse = False
            await until("what there is", lambda: "/w/new" in seen.entries, within=10)
            assert [one.restored for one in seen.snapshots] == [False, True]
            assert seen.entries["/w/old"].value == b"3"
