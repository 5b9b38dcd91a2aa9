"""A cluster has one journal: who shows another is refused, whoever comes at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from seedbed.errors import CallError, Reason
from seedbed.v1 import admin_pb2, store_pb2
from seedbed.v1 import cluster_pb2 as pb
from seedbed_seed.journal_pin import JournalPin
from seedbed_seed.memory_store import MemoryStore
from seedbed_seed.records import Keys
from seedbed_seed.store import Compare, Get, Outcome, Put, Reading, StoreFull, Write
from tests.unit.seed.asking_admin import ask
from tests.unit.seed.declared import declaration, hello, resuming
from tests.unit.seed.desk import Desk, desk
from tests.unit.seed.scripted import TroubledStore

KEYS = Keys("test")


def durable(node: str = "w1", journal: str = "j1", uid: str = "", *, port: int = 4000) -> pb.Hello:
    """A Hello of a worker with a durable type; its journal's timeline has the journal's name."""
    kept = declaration()
    kept.durable = True
    said = hello(node, port=port, types=[kept])
    if journal:
        said.journal.journal_id, said.journal.timeline = journal, f"{journal}-t"
        said.journal.cluster_uid = uid
    return said


async def refusal(seed: Desk, said: pb.Hello) -> str:
    """Why a Hello is refused for its journal."""
    refused = (await seed.connect(said).expect("refused")).refused
    assert refused.reason == "WRONG_JOURNAL", refused
    assert await seed.record(said.node_id) is None, "nothing is left of it"
    return refused.message


async def info(store: MemoryStore) -> store_pb2.ClusterInfo:
    [entry] = (await MemoryStore.read(store, Get(KEYS.info))).answers[0]
    return store_pb2.ClusterInfo.FromString(entry.value)


def adoption(journal: str, *, force: bool = False) -> admin_pb2.AdoptJournalRequest:
    return admin_pb2.AdoptJournalRequest(
        cluster="test", journal_id=journal, timeline=f"{journal}-t", force=force
    )


async def adopted(seed: Desk, journal: str, *, force: bool = False) -> str:
    """The uid that the journal is to be bound to."""
    raw = await ask(seed, "AdoptJournal", adoption(journal, force=force))
    answer = admin_pb2.AdoptJournalResponse.FromString(raw)
    assert (answer.cluster, answer.journal_id) == ("test", journal)
    return answer.cluster_uid


async def not_adopted(seed: Desk, request: admin_pb2.AdoptJournalRequest) -> str:
    with pytest.raises(CallError) as raised:
        await ask(seed, "AdoptJournal", request)
    assert raised.value.reason is Reason.WRONG_JOURNAL
    return raised.value.message


async def test_the_first_worker_with_a_journal_pins_it_and_all_learn_the_uid() -> None:
    async with desk() as seed:
        _, first = await seed.join(durable("w1"))
        _, second = await seed.join(durable("w2", uid=first.cluster_uid, port=4001))
        assert first.cluster_uid == second.cluster_uid != ""
        assert dict(first.shard_counts) == {"cup": 16}
        kept = await info(seed.store)
        assert (kept.cluster, kept.uid) == ("test", first.cluster_uid)
        assert (kept.journal_id, kept.journal_timeline) == ("j1", "j1-t")


async def test_a_worker_without_durable_types_needs_no_journal() -> None:
    async with desk() as seed:
        _, welcome = await seed.join(hello())
        assert (welcome.cluster_uid, dict(welcome.shard_counts)) == ("", {})


async def test_one_with_durable_types_that_names_none_is_too_old() -> None:
    async with desk() as seed:
        assert "(cup): upgrade it" in await refusal(seed, durable(journal=""))


async def test_another_journal_is_refused_and_so_is_another_timeline() -> None:
    async with desk() as seed:
        await seed.join(durable("w1"))
        text = await refusal(seed, durable("w2", "j2"))
        assert all(word in text for word in ("j1", "j2", "SEEDBED_JOURNAL", "sqlite:///./"))
        restored = durable("w3")
        restored.journal.timeline = "later"
        assert "timeline later" in await refusal(seed, restored)


async def test_a_journal_that_another_cluster_has_bound_is_refused_and_not_pinned() -> None:
    async with desk() as seed:
        text = await refusal(seed, durable(uid="another"))
        uid = (await info(seed.store)).uid
        assert all(word in text for word in ("another", uid, "seedbed adopt"))
        assert (await info(seed.store)).journal_id == ""


async def test_a_resume_is_refused_with_another_journal_too() -> None:
    async with desk() as seed:
        first = durable()
        _, welcome = await seed.join(first)
        again = resuming(first, welcome)
        again.journal.cluster_uid = "another"
        refused = (await seed.connect(again).expect("refused")).refused
        assert refused.reason == "WRONG_JOURNAL"


async def test_names_of_journals_have_a_limit() -> None:
    async with desk() as seed:
        for name in ("", "x" * 129):
            said = durable()
            said.journal.timeline = name
            assert (await seed.connect(said).expect("refused")).refused.reason == "INCOMPATIBLE"


@pytest.mark.parametrize("lost", ["lose_answers", "swallow"])
async def test_answers_that_are_lost_are_resolved_by_reading(lost: str) -> None:
    async with TroubledStore() as store:
        pin = JournalPin(store, KEYS, 1)
        setattr(store, lost, 1)
        uid = await pin.admit(durable())
        assert (await info(store)).uid == uid
        setattr(store, lost, 1)
        assert await pin.admit(durable(uid=uid)) == uid
        assert (await info(store)).journal_id == "j1"


class FullStore(MemoryStore):
    """Says that it is full, having written or not."""

    def __init__(self, *, writes: bool) -> None:
        super().__init__()
        self.writes = writes

    async def write(
        self,
        *writes: Write,
        when: Sequence[Compare] = (),
        otherwise: Sequence[Get] = (),
        timeout: float | None = None,
    ) -> Outcome:
        if self.writes:
            await super().write(*writes, when=when, otherwise=otherwise, timeout=timeout)
        raise StoreFull("no space")


async def test_a_full_store_is_asked_what_it_has_written() -> None:
    async with FullStore(writes=True) as store:
        assert await JournalPin(store, KEYS, 1).admit(durable()) == (await info(store)).uid
    async with FullStore(writes=False) as store:
        with pytest.raises(StoreFull):
            await JournalPin(store, KEYS, 1).admit(durable())


class FarStore(MemoryStore):
    """What it reads may be old by the time that the reader has it."""

    async def read(self, *gets: Get, timeout: float | None = None) -> Reading:
        reading = await super().read(*gets, timeout=timeout)
        await asyncio.sleep(0)
        return reading


async def test_of_many_journals_at_once_one_is_pinned() -> None:
    """Two seeds, and workers that come at the same moment."""
    async with FarStore() as store:
        pins = [JournalPin(store, KEYS, 1) for _ in range(2)]
        outcomes: dict[str, str] = {}
        refusals: set[Reason] = set()

        async def come(number: int) -> None:
            said = durable(f"w{number}", f"j{number}")
            try:
                outcomes[said.journal.journal_id] = await pins[number % 2].admit(said)
            except CallError as error:
                refusals.add(error.reason)
                outcomes[said.journal.journal_id] = ""

        async with asyncio.TaskGroup() as tasks:
            for number in range(4):
                tasks.create_task(come(number))
        kept = await info(store)
        assert {j for j, uid in outcomes.items() if uid} == {kept.journal_id}
        assert outcomes[kept.journal_id] == kept.uid
        assert refusals == {Reason.WRONG_JOURNAL}


async def test_a_journal_of_a_lost_store_is_adopted_and_then_admitted() -> None:
    async with desk() as seed:
        await refusal(seed, durable(uid="lost"))
        uid = await adopted(seed, "j1")
        await refusal(seed, durable(uid="lost"))
        _, welcome = await seed.join(durable(uid=uid))
        assert welcome.cluster_uid == uid
        assert await adopted(seed, "j1") == uid, "once more does no harm, also while it is used"


async def test_a_restored_journal_is_adopted_with_its_new_timeline() -> None:
    async with desk() as seed:
        await seed.pin.admit(durable())
        restored = adoption("j1")
        restored.timeline = "later"
        await ask(seed, "AdoptJournal", restored)
        assert (await info(seed.store)).journal_timeline == "later"


async def test_another_journal_than_the_pinned_is_adopted_by_force_if_nobody_uses_that() -> None:
    async with desk() as seed:
        worker, _ = await seed.join(durable())
        assert "--force" in await not_adopted(seed, adoption("j2"))
        text = await not_adopted(seed, adoption("j2", force=True))
        assert "stop w1" in text
        worker.disconnect()
        await seed.until_gone("w1")
        uid = await adopted(seed, "j2", force=True)
        await seed.join(durable("w2", "j2", uid))
        assert "j2" in await refusal(seed, durable("w3", "j1"))


async def test_workers_without_durable_types_use_no_journal() -> None:
    async with desk() as seed:
        await seed.join(hello("plain", port=4009))
        store = seed.store
        fixed = store_pb2.ClusterInfo(cluster="test", uid="u", journal_id="j1")
        await MemoryStore.write(store, Put(KEYS.info, fixed.SerializeToString()))
        assert await adopted(seed, "j2", force=True) == "u"


async def test_a_journal_of_another_cluster_is_not_adopted() -> None:
    async with desk() as seed:
        request = adoption("j1", force=True)
        request.cluster = "staging"
        assert "'staging', this is 'test'" in await not_adopted(seed, request)
        with pytest.raises(CallError) as raised:
            await ask(seed, "AdoptJournal", admin_pb2.AdoptJournalRequest(cluster="test"))
        assert raised.value.reason is Reason.BAD_REQUEST


class SlowStore(TroubledStore):
    """Does something once, before the next write of a key."""

    def __init__(self) -> None:
        super().__init__()
        self.key = ""
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def write(
        self,
        *writes: Write,
        when: Sequence[Compare] = (),
        otherwise: Sequence[Get] = (),
        timeout: float | None = None,
    ) -> Outcome:
        if self.key and any(write.key == self.key for write in writes):
            self.key = ""
            self.reached.set()
            await self.go_on.wait()
        return await super().write(*writes, when=when, otherwise=otherwise, timeout=timeout)


@asynccontextmanager
async def slow_desk() -> AsyncGenerator[tuple[Desk, SlowStore]]:
    """A seed whose cluster has pinned j1, and no worker."""
    async with SlowStore() as store:
        seed = Desk(store)
        async with seed.open():
            await seed.pin.admit(durable())
            yield seed, store


async def test_a_worker_that_joins_while_another_journal_is_adopted_is_refused() -> None:
    async with slow_desk() as (seed, store):
        store.key = KEYS.worker("w1")
        worker = seed.connect(durable())
        await store.reached.wait()
        await adopted(seed, "j2", force=True)
        store.go_on.set()
        assert (await worker.expect("refused")).refused.reason == "WRONG_JOURNAL"
        assert await seed.record("w1") is None


async def test_or_its_operator_is_told_of_it() -> None:
    async with slow_desk() as (seed, store):
        store.key = KEYS.info
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(not_adopted(seed, adoption("j2", force=True)))
            await store.reached.wait()
            await seed.join(durable())
            store.go_on.set()
        assert "w1 joined with the journal j1 in this instant" in telling.result()
