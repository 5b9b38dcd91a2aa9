"""etcd out of space: a write that it answers so may have been carried out, or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_seed.member_records import Joined
from seedbed_seed.store import Compare, Get, Outcome, Put, StoreFull, Write
from tests.unit.seed.declared import declaration, hello, resuming
from tests.unit.seed.desk import Desk
from tests.unit.seed.scripted import PATIENCE_S, TroubledStore

RENEWED = pb.LEASE_STATE_RENEWED


class FullStore(TroubledStore):
    """Takes `room` more writes that put something, applies one more (if `crossing`), and no other.

    Deletes, revokes and renewals go on, as in etcd.
    """

    def __init__(self) -> None:
        super().__init__()
        self.room: int | None = None
        self.crossing = False
        self.refused: list[str] = []
        """First keys of the writes that were refused."""

    async def write(
        self,
        *writes: Write,
        when: Sequence[Compare] = (),
        otherwise: Sequence[Get] = (),
        timeout: float | None = None,
    ) -> Outcome:
        if self.room is None or not any(isinstance(write, Put) for write in writes):
            return await super().write(*writes, when=when, otherwise=otherwise, timeout=timeout)
        if self.room > 0:
            self.room -= 1
            return await super().write(*writes, when=when, otherwise=otherwise, timeout=timeout)
        if self.crossing:
            self.crossing = False
            await super().write(*writes, when=when, otherwise=otherwise, timeout=timeout)
        self.refused.append(writes[0].key)
        raise StoreFull("no space")

    def fill(self, *, crossing: bool) -> None:
        """From now on there is no space."""
        self.room, self.crossing = 0, crossing


@asynccontextmanager
async def full_desk() -> AsyncGenerator[tuple[Desk, FullStore], None]:
    async with FullStore() as store:
        seed = Desk(store, ttl_s=60)
        async with seed.open():
            await seed.contracts.register([declaration()])
            yield seed, store


@pytest.mark.parametrize("crossing", [False, True])
async def test_a_join_that_was_refused_for_space_leaves_nothing_behind(crossing: bool) -> None:
    async with full_desk() as (seed, store):
        store.fill(crossing=crossing)
        worker = seed.connect(hello())
        assert (await worker.expect("refused")).refused.reason == "STORE_FULL"
        assert await seed.record("w1") is None
        store.room = None
        await seed.join(worker.hello)


async def test_a_resume_that_was_carried_out_is_one() -> None:
    async with full_desk() as (seed, store):
        first = hello()
        _, welcome = await seed.join(first)
        store.fill(crossing=True)
        worker, again = await seed.join(resuming(first, welcome))
        assert again.lease_id == welcome.lease_id
        assert await worker.state() == RENEWED


async def test_a_resume_that_was_not_carried_out_is_refused_and_changes_nothing() -> None:
    async with full_desk() as (seed, store):
        first = hello()
        _, welcome = await seed.join(first)
        before = await seed.record("w1")
        store.fill(crossing=False)
        worker = seed.connect(resuming(first, welcome))
        assert (await worker.expect("refused")).refused.reason == "STORE_FULL"
        assert await seed.record("w1") == before


@pytest.mark.parametrize("crossing", [False, True])
async def test_a_status_is_told_as_the_record_has_it(crossing: bool) -> None:
    async with full_desk() as (seed, store):
        first = hello()
        _, welcome = await seed.join(first)
        joined = Joined(
            node_id="w1",
            incarnation=first.incarnation,
            stream_id=first.stream_id,
            host=first.host,
            port=first.port,
            lease=welcome.lease_id,
            ttl_ms=welcome.ttl_ms,
            secret=welcome.secret,
            resumed=False,
        )
        store.fill(crossing=crossing)
        left, before = store_pb2.MEMBER_STATUS_LEFT, {store_pb2.MEMBER_STATUS_JOINING}
        if crossing:
            assert await seed.records.set_status(joined, left, before)
        else:
            with pytest.raises(StoreFull):
                await seed.records.set_status(joined, left, before)
        record = await seed.record("w1")
        assert record is not None
        assert (record.member.status == left) is crossing


@pytest.mark.parametrize("crossing", [False, True])
async def test_a_seeds_own_record_is_told_as_the_store_has_it(crossing: bool) -> None:
    async with full_desk() as (seed, store):
        store.fill(crossing=crossing)
        if crossing:
            lease = await seed.lease.enter()
            await seed.until("its record", lambda: "s1" in seed.view.seeds)
            assert seed.view.seeds["s1"].record.lease_id == lease
        else:
            with pytest.raises(StoreFull):
                await seed.lease.enter()


@pytest.mark.parametrize("crossing", [False, True])
async def test_a_seed_that_cannot_stand_for_want_of_space_keeps_its_lease_and_tries_again(
    crossing: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("seedbed_seed.driver.FULL_PAUSE_S", 0.05)
    async with full_desk() as (seed, store):
        store.room, store.crossing = 1, crossing  # its record, and no candidacy
        async with seed.open_driver():
            await seed.until("its record", lambda: "s1" in seed.view.seeds)
            lease = seed.view.seeds["s1"].record.lease_id
            async with asyncio.timeout(PATIENCE_S):
                while len(store.refused) < 2:
                    await asyncio.sleep(0.01)
            assert all(key.startswith(seed.keys.election) for key in store.refused)
            assert "store full" in caplog.messages
            assert "seed without lease" not in caplog.messages
            store.room = None
            await seed.until("a leader", lambda: seed.view.leader() == "s1")
            assert seed.view.seeds["s1"].record.lease_id == lease
