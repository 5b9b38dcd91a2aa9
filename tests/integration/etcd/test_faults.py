"""The client while etcd's processes die, freeze, lose their quorum or compact."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from seedbed_seed.etcd import EtcdStore
from seedbed_seed.store import (
    Created,
    Delete,
    Get,
    Put,
    Store,
    StoreUnreachable,
    WriteInDoubt,
)
from tests.support.etcd import etcd_cluster
from tests.support.mirror import Mirror, mirror
from tests.support.proxy import proxy
from tests.support.waiting import now, until

pytestmark = pytest.mark.integration


class Writer:
    """Writes numbered keys one after the other, and remembers what became of each."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, int] = {}
        """Key to revision."""
        self.in_doubt: list[str] = []
        self._stop = False
        self._stopped = False

    async def run(self, store: Store) -> None:
        number = 0
        while not self._stop:
            key = f"/w/{number:06}"
            number += 1
            try:
                outcome = await store.write(Put(key, b""), when=[Created(key, 0)], timeout=0.5)
            except WriteInDoubt:
                self.in_doubt.append(key)
            except StoreUnreachable:
                number -= 1
            else:
                # A key is written once; a write sent twice would find the first one's key.
                assert outcome.succeeded, f"{key} was sent twice"
                self.acknowledged[key] = outcome.revision
        self._stopped = True

    async def stop(self) -> None:
        """Let the write under way end, and write no more."""
        self._stop = True
        await until("the last write", lambda: self._stopped, within=5)

    async def goes_on(self, within: float) -> None:
        """Wait for five more acknowledged writes."""
        goal = len(self.acknowledged) + 5
        await until("writes go on", lambda: len(self.acknowledged) >= goal, within=within)


@asynccontextmanager
async def writing(store: Store) -> AsyncGenerator[Writer, None]:
    writer = Writer()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(writer.run(store))
        try:
            yield writer
        finally:
            task.cancel()


async def saw_everything(seen: Mirror, writer: Writer) -> None:
    """Every acknowledged write was told once, in order, and nothing that nobody wrote."""
    await writer.stop()
    last = max(writer.acknowledged.values())
    await until("the watch catches up", lambda: seen.revision >= last, within=10)
    told = dict.fromkeys(key for _, key in seen.changes)
    assert len(seen.snapshots) == 1, "a resumed watch needs no new listing"
    assert seen.changes == sorted(seen.changes)
    assert len(told) == len(seen.changes), "a change was told twice"
    listed = {entry.key for entry in seen.snapshots[0].entries}
    assert not listed & told.keys()
    missing = writer.acknowledged.keys() - told.keys() - listed
    assert not missing
    assert told.keys() <= writer.acknowledged.keys() | set(writer.in_doubt)
    for revision, key in seen.changes:
        assert writer.acknowledged.get(key, revision) == revision


async def test_kill_9_and_restart_loses_and_repeats_nothing(tmp_path: Path) -> None:
    async with (
        etcd_cluster(1, tmp_path) as etcd,
        etcd.store() as store,
        mirror(store, "/w/") as seen,
        writing(store) as writer,
    ):
        for _ in range(2):
            await writer.goes_on(within=10)
            etcd.members[0].kill()
            await etcd.members[0].start()
            healthy = now()
            await writer.goes_on(within=10)
            assert now() - healthy < 2.5, "gRPC's own backoff would take far longer"
        await saw_everything(seen, writer)


@pytest.mark.parametrize("victim", ["follower", "leader"])
async def test_a_frozen_member_is_left_and_its_thaw_repeats_nothing(
    victim: str, tmp_path: Path
) -> None:
    async with etcd_cluster(3, tmp_path, fast=True) as etcd:
        index = await (etcd.leader() if victim == "leader" else etcd.follower())
        async with (
            etcd.store(first=index) as store,
            mirror(store, "/w/") as seen,
            writing(store) as writer,
        ):
            await writer.goes_on(within=10)
            await until("a snapshot", lambda: bool(seen.snapshots), within=5)
            await store.grant(1, 10)
            assert await store.renew(1) == 10
            etcd.members[index].freeze()
            frozen = now()
            await writer.goes_on(within=6)
            assert now() - frozen < 5
            assert await store.renew(1, timeout=4) == 10
            last = max(writer.acknowledged.values())
            await until("the watch moves over", lambda: seen.revision >= last, within=6)
            etcd.members[index].thaw()
            await writer.goes_on(within=6)
            # A leader that was frozen may have revoked leases that were renewed: then it is 0.
            ttl_s = await store.renew(1, timeout=4)
            assert ttl_s == 10 or not (await store.read(Get("/x"))).answers[0]
            await saw_everything(seen, writer)


async def test_without_a_quorum_every_call_ends_in_time_and_says_so(tmp_path: Path) -> None:
    async with etcd_cluster(3, tmp_path, fast=True) as etcd, etcd.store(first=0) as store:
        await store.grant(1, 60)
        async with mirror(store, "/w/") as seen:
            await until("a snapshot", lambda: bool(seen.snapshots), within=5)
            for member in etcd.members[1:]:
                member.kill()
            began = now()
            with pytest.raises((WriteInDoubt, StoreUnreachable)):
                await store.write(Put("/w/a", b""), timeout=1)
            with pytest.raises(StoreUnreachable):
                await store.read(Get("/w/a"), timeout=1)
            with pytest.raises(StoreUnreachable):
                await store.renew(1, timeout=1)
            assert now() - began < 3.5

            async def refused_at_once() -> None:
                # Nothing is in doubt once the survivor knows that it has no leader.
                async with asyncio.timeout(10):
                    while True:
                        try:
                            await store.write(Put("/w/b", b""), timeout=1)
                        except WriteInDoubt:
                            continue
                        except StoreUnreachable:
                            return

            await refused_at_once()
            await until_silent(seen)
            await etcd.members[1].start()
            await store.write(Put("/w/c", b""), timeout=10)
            assert await store.renew(1, timeout=10) == 60
            await until("the watch is back", lambda: "/w/c" in seen.entries, within=10)
            assert len(seen.snapshots) == 1


async def until_silent(seen: Mirror) -> None:
    """Wait until a whole 3 s go by without progress: a watch without a leader is no watch."""
    async with asyncio.timeout(20):
        while True:
            before = seen.updates
            try:
                await until("an update", lambda: seen.updates > before, within=3)  # noqa: B023
            except AssertionError:
                return


async def test_a_compaction_while_the_watch_is_away_gives_a_new_snapshot(tmp_path: Path) -> None:
    async with (
        etcd_cluster(1, tmp_path) as etcd,
        etcd.store() as direct,
        proxy(etcd.members[0].port) as between,
        EtcdStore([between.endpoint]) as store,
        mirror(store, "/w/") as seen,
    ):
        await direct.write(Put("/w/deleted", b""), Put("/w/kept", b"1"))
        await until("two keys", lambda: len(seen.entries) == 2, within=5)
        between.refuse = True
        between.cut()
        await direct.write(Delete("/w/deleted"))
        await direct.write(Put("/w/new", b""))
        last = await direct.write(Put("/w/kept", b"2"))
        await etcd.compact(last.revision)
        between.refuse = False
        await until("a second snapshot", lambda: len(seen.snapshots) == 2, within=10)
        assert not seen.snapshots[1].restored
        assert seen.entries.keys() == {"/w/kept", "/w/new"}
        assert seen.entries["/w/kept"].value == b"2"
        after = await direct.write(Put("/w/after", b""))
        await until("the next change", lambda: "/w/after" in seen.entries, within=5)
        assert seen.changes[-1] == (after.revision, "/w/after")


async def test_a_backlog_larger_than_grpcs_message_limit(tmp_path: Path) -> None:
    value = b"x" * 1_000_000
    async with (
        etcd_cluster(1, tmp_path) as etcd,
        etcd.store() as direct,
        proxy(etcd.members[0].port) as between,
        EtcdStore([between.endpoint]) as store,
        mirror(store, "/w/") as seen,
    ):
        await direct.write(Put("/w/0", b""))
        await until("a first change", lambda: "/w/0" in seen.entries, within=5)
        between.refuse = True
        between.cut()
        revisions = [
            (await direct.write(Put(f"/w/{number}", value), timeout=5)).revision
            for number in range(1, 13)
        ]
        between.refuse = False
        await until("all of it", lambda: seen.revision >= revisions[-1], within=10)
        assert len(seen.snapshots) == 1
        assert [revision for revision, _ in seen.changes[-12:]] == revisions
        reading = await direct.read(Get("/w/", prefix=True), timeout=5)
        assert sum(len(entry.value) for entry in reading.answers[0]) == 12_000_000
        async with mirror(store, "/w/") as late:
            await until("the listing", lambda: bool(late.snapshots), within=10)
            assert len(late.snapshots[0].entries) == 13


async def test_a_listing_of_many_pages_is_of_one_revision(tmp_path: Path) -> None:
    async with (
        etcd_cluster(1, tmp_path) as etcd,
        etcd.store() as direct,
        proxy(etcd.members[0].port) as between,
        EtcdStore([between.endpoint]) as store,
    ):
        # These come before the writer's keys, which are on the last page.
        for block in range(25):
            await direct.write(*(Put(f"/w/!{block:02}/{n:03}", b"") for n in range(100)))
        between.delay_s = 0.03
        async with writing(direct) as writer, mirror(store, "/w/") as seen:
            await writer.goes_on(within=5)
            await until("changes", lambda: len(seen.changes) >= 20, within=10)
        (listed,) = seen.snapshots
        assert len({entry.key for entry in listed.entries}) == len(listed.entries)
        assert len(listed.entries) >= 2_500
        # One revision, one key: what the listing has not, the watch tells, without a gap.
        assert max(entry.mod_revision for entry in listed.entries) == listed.revision
        assert seen.changes[0][0] == listed.revision + 1
