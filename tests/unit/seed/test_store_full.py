"""etcd out of space: a write that it answers so may have been carried out, or not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_seed.member_records import Joined
from seedbed_seed.store import Compare, Get, Outcome, Put, StoreFull, Write
from tests.unit.seed.declared import declaration
from tests.unit.seed.desk import Desk, TroubledStore, hello, resuming

RENEWED = pb.LEASE_STATE_RENEWED


class FullStore(TroubledStore):
    """Takes `room` more writes that put something, applies one more (if `crossing`), and no other.

    Deletes, revokes and renewals go on, as in etcd.
    """

    def __init__(self) -> None:
        super().__init__()
        self.room: int | None = None
        self.crossing = False

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
