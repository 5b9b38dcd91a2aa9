"""What every store does, whichever adapter: the port's semantics, one test each."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import suppress

import pytest

from seedbed_seed.etcd import EtcdStore
from seedbed_seed.memory_store import MemoryStore
from seedbed_seed.store import (
    Change,
    Changed,
    Changes,
    Created,
    Delete,
    Entry,
    Get,
    LeaseExists,
    LeaseNotFound,
    Modified,
    Put,
    Removed,
    Snapshot,
    Store,
    StoreError,
    WatchUpdate,
)
from tests.support.etcd import etcd_cluster

EVENT_S = 10.0


@pytest.fixture(scope="module")
def etcd_endpoints(tmp_path_factory: pytest.TempPathFactory) -> Generator[list[str], None, None]:
    cluster = etcd_cluster(1, tmp_path_factory.mktemp("etcd"), fast=True)
    with asyncio.Runner() as runner:
        running = runner.run(cluster.__aenter__())
        yield running.endpoints
        runner.run(cluster.__aexit__(None, None, None))


@pytest.fixture(params=["memory", pytest.param("etcd", marks=pytest.mark.integration)])
def endpoints(request: pytest.FixtureRequest) -> list[str]:
    """Of etcd, which is started only if asked for; none for the store in memory."""
    return [] if request.param == "memory" else request.getfixturevalue("etcd_endpoints")


@pytest.fixture
async def store(endpoints: list[str]) -> AsyncGenerator[Store, None]:
    async with EtcdStore(endpoints) if endpoints else MemoryStore() as store:
        yield store


@pytest.fixture
def at() -> str:
    """A prefix that no other test uses."""
    return f"/{uuid.uuid4().hex}/"


def new_lease() -> int:
    return uuid.uuid4().int >> 65


async def get(store: Store, key: str) -> Entry | None:
    (entries,) = (await store.read(Get(key))).answers
    return entries[0] if entries else None


async def news(updates: AsyncIterator[WatchUpdate], count: int) -> list[Change]:
    """The next `count` changes of a watch, progress left out; fails on a snapshot."""
    changes: list[Change] = []
    async with asyncio.timeout(EVENT_S):
        while len(changes) < count:
            update = await anext(updates)
            assert isinstance(update, Changes)
            changes += update.changes
    return changes


async def snapshot(updates: AsyncIterator[WatchUpdate]) -> Snapshot:
    async with asyncio.timeout(EVENT_S):
        update = await anext(updates)
    assert isinstance(update, Snapshot)
    return update


async def test_a_key_knows_who_created_it_and_who_changed_it(store: Store, at: str) -> None:
    key = f"{at}a"
    assert await get(store, key) is None
    created = await store.write(Put(key, b"1"))
    changed = await store.write(Put(key, b"2"))
    assert created.succeeded
    assert changed.revision == created.revision + 1
    assert await get(store, key) == Entry(key, b"2", created.revision, changed.revision)


async def test_a_key_written_again_after_its_deletion_is_a_new_one(store: Store, at: str) -> None:
    key = f"{at}a"
    await store.write(Put(key, b"1"))
    await store.write(Delete(key))
    assert await get(store, key) is None
    again = await store.write(Put(key, b"1"))
    assert await get(store, key) == Entry(key, b"1", again.revision, again.revision)


async def test_a_range_is_in_order_of_keys_and_ends_at_its_prefix(store: Store, at: str) -> None:
    keys = [f"{at}{name}" for name in ("b", "a", "aß", "a/z", "a\x7f")]
    await store.write(*(Put(key, b"v") for key in keys))
    await store.write(Put(f"{at[:-1]}0", b"outside"))
    (under, under_a, none) = (
        await store.read(Get(at, prefix=True), Get(f"{at}a", prefix=True), Get(f"{at}c"))
    ).answers
    assert [entry.key for entry in under] == sorted(keys)
    assert [entry.key for entry in under_a] == [key for key in sorted(keys) if key != f"{at}b"]
    assert none == ()


async def test_keys_only_leaves_out_values_and_leases_and_nothing_else(
    store: Store, at: str
) -> None:
    lease = new_lease()
    await store.grant(lease, 30)
    revision = (await store.write(Put(f"{at}a", b"long", lease))).revision
    reading = await store.read(Get(at, prefix=True, keys_only=True), Get(f"{at}a", keys_only=True))
    assert reading.revision >= revision
    expected = (Entry(f"{at}a", b"", revision, revision),)
    assert reading.answers == (expected, expected)


async def test_writes_of_one_transaction_share_a_revision(store: Store, at: str) -> None:
    await store.write(Put(f"{at}old", b""))
    outcome = await store.write(Put(f"{at}a", b""), Put(f"{at}b", b""), Delete(f"{at}old"))
    reading = await store.read(Get(at, prefix=True))
    assert [entry.mod_revision for entry in reading.answers[0]] == [outcome.revision] * 2


async def test_nothing_changes_the_revision_but_a_change(store: Store, at: str) -> None:
    before = (await store.write(Put(f"{at}a", b""))).revision
    assert (await store.write(Delete(f"{at}absent"))).revision == before
    assert (await store.write(when=[Created(f"{at}a", before)])).revision == before
    assert (await store.write(Put(f"{at}a", b""), when=[Created(f"{at}a", 0)])).revision == before
    assert (await store.read(Get(f"{at}a"))).revision == before


async def test_compares_hold_or_nothing_is_written(store: Store, at: str) -> None:
    key, other = f"{at}a", f"{at}other"
    first = (await store.write(Put(key, b"1"), when=[Created(key, 0)])).revision
    second = (await store.write(Put(key, b"2"), when=[Modified(key, first)])).revision

    async def holds(*when: Created | Modified) -> bool:
        outcome = await store.write(Put(other, b"!"), when=when, otherwise=[Get(key)])
        written = await get(store, other) is not None
        assert written is outcome.succeeded
        if written:
            assert outcome.answers == ()
            await store.write(Delete(other))
        else:
            assert outcome.answers == ((Entry(key, b"2", first, second),),)
        return outcome.succeeded

    assert await holds(Created(key, first), Modified(key, second))
    assert not await holds(Created(key, second))
    assert not await holds(Created(key, 0))
    assert not await holds(Modified(key, first))
    assert await holds(Created(key, 0, equal=False))
    assert await holds(Created(key, second, equal=False))
    assert not await holds(Created(key, first, equal=False))
    assert await holds(Created(f"{at}absent", 0), Modified(f"{at}absent", 0))
    assert not await holds(Created(f"{at}absent", 0, equal=False))
    assert not await holds(Created(key, first), Created(f"{at}absent", first))


async def test_otherwise_answers_in_the_order_asked(store: Store, at: str) -> None:
    await store.write(Put(f"{at}a", b"1"), Put(f"{at}b", b"2"))
    outcome = await store.write(
        Put(f"{at}a", b""),
        when=[Created(f"{at}a", 0)],
        otherwise=[Get(f"{at}b"), Get(f"{at}none"), Get(at, prefix=True)],
    )
    assert [[entry.value for entry in answer] for answer in outcome.answers] == [
        [b"2"],
        [],
        [b"1", b"2"],
    ]


async def test_a_transaction_holds_128_of_each_kind_and_no_more(store: Store, at: str) -> None:
    keys = [f"{at}{number:03}" for number in range(129)]
    absent = [Created(key, 0) for key in keys]
    reads = [Get(key) for key in keys]
    full = await store.write(
        *(Put(key, b"") for key in keys[:128]), when=absent[:128], otherwise=reads[:128]
    )
    assert full.succeeded
    with pytest.raises(StoreError, match="at most 128"):
        await store.write(*(Delete(key) for key in keys))
    with pytest.raises(StoreError, match="at most 128"):
        await store.write(when=absent)
    with pytest.raises(StoreError, match="at most 128"):
        await store.write(otherwise=reads)
    with pytest.raises(StoreError, match="at most 128"):
        await store.read(*reads)
    assert len((await store.read(Get(at, prefix=True))).answers[0]) == 128


async def test_what_cannot_be_one_transaction_is_refused(store: Store, at: str) -> None:
    with pytest.raises(StoreError, match="at most once"):
        await store.write(Put(f"{at}a", b"1"), Put(f"{at}a", b"2"))
    with pytest.raises(StoreError, match="at most once"):
        await store.write(Put(f"{at}a", b"1"), Delete(f"{at}a"))
    with pytest.raises(StoreError, match="empty"):
        await store.write(Put("", b"1"))
    with pytest.raises(StoreError, match="over the limit"):
        await store.write(Put(f"{at}a", b"x" * 1_600_000))
    assert (await store.write(Put(f"{at}a", b"x" * 1_400_000))).succeeded


async def test_a_lease_takes_its_keys_with_it(store: Store, at: str) -> None:
    lease = new_lease()
    assert await store.grant(lease, 30) == 30
    await store.write(Put(f"{at}a", b"", lease), Put(f"{at}b", b"", lease), Put(f"{at}c", b""))
    async with store.watch(at) as updates:
        await snapshot(updates)
        await store.revoke(lease)
        gone = await news(updates, 2)
    assert {change.key for change in gone if isinstance(change, Removed)} == {f"{at}a", f"{at}b"}
    assert await get(store, f"{at}a") is None
    assert await get(store, f"{at}c") is not None


async def test_a_lease_id_is_granted_once(store: Store) -> None:
    lease = new_lease()
    await store.grant(lease, 30)
    with pytest.raises(LeaseExists):
        await store.grant(lease, 30)
    await store.revoke(lease)
    await store.grant(lease, 30)
    for bad in ((0, 5), (-1, 5), (new_lease(), 0)):
        with pytest.raises(StoreError, match="positive"):
            await store.grant(*bad)


async def test_a_put_under_an_ended_lease_is_refused_whole(store: Store, at: str) -> None:
    lease = new_lease()
    with pytest.raises(LeaseNotFound):
        await store.write(Put(f"{at}a", b""), Put(f"{at}b", b"", lease))
    assert await get(store, f"{at}a") is None
    refused = await store.write(Put(f"{at}b", b"", lease), when=[Created(f"{at}b", 7)])
    assert not refused.succeeded


async def test_the_last_put_decides_the_lease(store: Store, at: str) -> None:
    first, second = new_lease(), new_lease()
    await store.grant(first, 30)
    await store.grant(second, 30)
    await store.write(Put(f"{at}free", b"", first), Put(f"{at}moved", b"", first))
    await store.write(Put(f"{at}free", b""), Put(f"{at}moved", b"", second))
    await store.revoke(first)
    assert await get(store, f"{at}free") is not None
    await store.revoke(second)
    assert await get(store, f"{at}moved") is None
    assert await get(store, f"{at}free") is not None


async def test_an_unknown_lease_renews_to_nothing_and_is_revoked_without_error(
    store: Store,
) -> None:
    assert await store.renew(new_lease()) == 0
    await store.revoke(new_lease())


async def test_a_lease_lives_while_it_is_renewed_and_ends_by_itself(store: Store, at: str) -> None:
    kept, left = new_lease(), new_lease()
    ttl_s = await store.grant(kept, 1)
    await store.grant(left, 1)
    await store.write(Put(f"{at}kept", b"k", kept), Put(f"{at}left", b"l", left))
    loop = asyncio.get_running_loop()
    granted_at = loop.time()
    async with store.watch(at) as updates:
        await snapshot(updates)

        async def first_to_go() -> Change:
            return (await news(updates, 1))[0]

        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(first_to_go())
            while loop.time() < granted_at + 3 * ttl_s:
                assert await store.renew(kept) == ttl_s
                await asyncio.wait({gone}, timeout=ttl_s / 4)
                if not gone.done():
                    assert loop.time() < granted_at + ttl_s + 2
            removed = gone.result()
        assert isinstance(removed, Removed)
        assert removed.key == f"{at}left"
        assert removed.last is not None
        assert removed.last.value == b"l"
        assert await store.renew(left) == 0
        (removed,) = await news(updates, 1)
        assert isinstance(removed, Removed)
        assert removed.key == f"{at}kept"
        assert await store.renew(kept) == 0


async def test_a_watch_begins_with_what_is_there_and_tells_every_change(
    store: Store, at: str
) -> None:
    before = (await store.write(Put(f"{at}a", b"1"))).revision
    async with store.watch(at) as updates:
        first = await snapshot(updates)
        assert first == Snapshot(first.revision, (Entry(f"{at}a", b"1", before, before),))
        assert first.revision >= before
        changed = (await store.write(Put(f"{at}a", b"2"))).revision
        created = (await store.write(Put(f"{at}b", b"3"))).revision
        removed = (await store.write(Delete(f"{at}a"))).revision
        await store.write(Put(f"{at[:-1]}0", b"outside"))
        again = (await store.write(Put(f"{at}a", b"4"))).revision
        changes = await news(updates, 4)
    assert changes == [
        Changed(Entry(f"{at}a", b"2", before, changed)),
        Changed(Entry(f"{at}b", b"3", created, created)),
        Removed(f"{at}a", removed, Entry(f"{at}a", b"2", before, changed)),
        Changed(Entry(f"{at}a", b"4", again, again)),
    ]


async def test_a_revision_is_never_split(store: Store, at: str) -> None:
    keys = [f"{at}{number:03}" for number in range(100)]
    async with store.watch(at) as updates:
        await snapshot(updates)
        revision = (await store.write(*(Put(key, b"x" * 10_000) for key in keys))).revision
        async with asyncio.timeout(EVENT_S):
            while not (update := await anext(updates)).revision >= revision:
                pass
    assert isinstance(update, Changes)
    assert update.revision == revision
    assert len(update.changes) == 100


async def test_an_idle_watch_makes_progress(store: Store, at: str) -> None:
    async with store.watch(at) as updates:
        await snapshot(updates)
        revision = (await store.write(Put(f"/elsewhere{at}", b""))).revision
        async with asyncio.timeout(5):
            while (update := await anext(updates)).revision < revision:
                assert update == Changes(update.revision)
        assert update == Changes(update.revision)


async def test_a_watch_makes_progress_though_nothing_changes_at_all(store: Store, at: str) -> None:
    async with store.watch(at) as updates:
        first = await snapshot(updates)
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(10):
            for _ in range(4):
                assert await anext(updates) == Changes(first.revision)
        assert asyncio.get_running_loop().time() - began > 2, "progress, not a busy loop"


async def test_giving_up_on_an_update_loses_none(store: Store, at: str) -> None:
    async with store.watch(at) as updates:
        await snapshot(updates)
        for _ in range(20):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.001):
                    await anext(updates)
        revision = (await store.write(Put(f"{at}a", b""))).revision
        assert await news(updates, 1) == [Changed(Entry(f"{at}a", b"", revision, revision))]


async def test_watches_are_independent_and_end_with_their_scope(store: Store, at: str) -> None:
    async with store.watch(f"{at}a") as one:
        await snapshot(one)
        async with store.watch(f"{at}b") as other:
            await snapshot(other)
            await store.write(Put(f"{at}a", b""), Put(f"{at}b", b""))
            assert len(await news(other, 1)) == 1
        assert len(await news(one, 1)) == 1
        await store.write(Put(f"{at}a", b"2"))
        assert len(await news(one, 1)) == 1


async def test_the_empty_prefix_is_everything(store: Store, at: str) -> None:
    await store.write(Put(f"{at}a", b""))
    (entries,) = (await store.read(Get("", prefix=True, keys_only=True))).answers
    assert f"{at}a" in {entry.key for entry in entries}
    async with store.watch("") as updates:
        assert f"{at}a" in {entry.key for entry in (await snapshot(updates)).entries}


async def test_two_claims_at_once_give_one_winner(store: Store, at: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        claims = [
            tasks.create_task(store.write(Put(f"{at}a", b"%d" % n), when=[Created(f"{at}a", 0)]))
            for n in range(20)
        ]
    assert [claim.result().succeeded for claim in claims].count(True) == 1


async def test_an_error_of_the_body_leaves_the_scopes_as_it_is(store: Store, at: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.watch(at):
            raise ZeroDivisionError
