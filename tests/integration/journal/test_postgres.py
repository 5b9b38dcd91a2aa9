"""The journal in PostgreSQL when its server, or a connection to it, does not do what it should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from itertools import count
from random import Random
from typing import TypeVar
from uuid import uuid4

import asyncpg
import pytest

from seedbed_worker.journal import postgres_session
from seedbed_worker.journal.port import (
    Clash,
    Fence,
    Group,
    InDoubt,
    JournalError,
    Kind,
    Record,
    Unavailable,
)
from seedbed_worker.journal.postgres import LANES, PostgresJournal
from seedbed_worker.journal.postgres_statements import APPEND, TAKE
from tests.support.postgres import Server
from tests.support.waiting import now

pytestmark = pytest.mark.integration

T = TypeVar("T")

TYPE = "bank.Account"
ANSWER_S = 10.0


@pytest.fixture
def own_server() -> Generator[Server]:
    """A server that a test may kill."""
    server = Server()
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def opened(dsn: str, *, limit_s: float = ANSWER_S) -> AsyncGenerator[PostgresJournal]:
    journal = PostgresJournal(lambda: dsn, limit_s=limit_s, lock_wait_s=0.2)
    try:
        await journal.open("test")
        await journal.enter({TYPE: 64})
        yield journal
    finally:
        await journal.close()


@asynccontextmanager
async def superuser(dsn: str) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def taken(journal: PostgresJournal, shard: int = 0) -> Fence:
    fence = Fence(1, uuid4())
    await journal.take(TYPE, shard, fence)
    return fence


def group(fence: Fence, *seqs: int, shard: int = 0, key: str = "a") -> Group:
    """Each record's data is its number."""
    records = [Record(key, seq, Kind.STATE, b"%d" % seq, 0) for seq in seqs]
    return Group(TYPE, shard, fence, records)


async def append_on(journal: PostgresJournal, fence: Fence) -> None:
    """Until it fails."""
    for seq in count(await last(journal) + 1):
        assert await journal.append([group(fence, seq)])


async def last(journal: PostgresJournal, shard: int = 0) -> int:
    found = await journal.load(TYPE, shard, ["a"])
    return found["a"].seq if found else 0


async def log(journal: PostgresJournal, shard: int = 0) -> list[int]:
    """The numbers in the log of a shard; fails if its offsets have gaps."""
    tail = await journal.tail(TYPE, shard, 0, 100_000)
    assert [one.off for one in tail] == list(range(1, len(tail) + 1))
    return [one.record.seq for one in tail]


async def waiting_for_a_lock(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    async with asyncio.timeout(ANSWER_S):
        while not await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.01)


async def appended_while_taken(dsn: str) -> bool:
    """Whether an append is let in that began before a take was committed, and ended after it."""
    async with opened(dsn) as journal, superuser(dsn) as other, superuser(dsn) as watcher:
        own = await taken(journal)
        (type_id,) = (await other.fetch("SELECT id FROM seedbed.entity_type"))[0]
        async with asyncio.TaskGroup() as tasks, other.transaction():
            await other.fetch(TAKE, type_id, 0, 2, uuid4(), "1s")
            append = tasks.create_task(journal.append([group(own, 1)]))
            await waiting_for_a_lock(watcher)
        return bool(await append)


async def test_an_append_that_waited_for_a_take_is_refused(journal_dsn: str) -> None:
    assert not await appended_while_taken(journal_dsn)


async def test_without_the_lock_it_would_not_be(
    journal_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = APPEND.replace("FOR NO KEY UPDATE OF f", "").replace(
        "(f.type, f.shard, f.epoch, f.writer) = (h.type, h.shard, h.epoch, h.writer)",
        "(f.type, f.shard) = (h.type, h.shard)",
    )
    monkeypatch.setattr(postgres_session, "APPEND", append)
    assert await appended_while_taken(journal_dsn)


async def test_a_take_waits_for_the_fence_but_not_for_long(journal_dsn: str) -> None:
    async with opened(journal_dsn) as journal, superuser(journal_dsn) as other:
        own = await taken(journal)
        async with other.transaction():
            await other.execute("SELECT 1 FROM seedbed.fence FOR NO KEY UPDATE")
            with pytest.raises(Unavailable):
                await taken(journal)
            await taken(journal, shard=1)
        assert await journal.append([group(own, 1)])


async def test_each_doubt_is_resolved_by_fencing_and_reading(journal_dsn: str) -> None:
    """Connections are killed all the time, in the midst of appends and between them."""
    doubts = 0
    async with opened(journal_dsn) as journal, superuser(journal_dsn) as killer:
        own, acknowledged, random = await taken(journal), 0, Random(1)

        async def kill() -> None:
            while True:
                await killer.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    r" WHERE datname = current_database() AND query LIKE E'\nWITH asked%'"
                )
                await asyncio.sleep(random.uniform(0.02, 0.05))

        async with asyncio.TaskGroup() as tasks:
            killing = tasks.create_task(kill())
            while doubts < 50:
                try:
                    assert await journal.append([group(own, acknowledged + 1)])
                except Unavailable:
                    continue
                except InDoubt:
                    doubts += 1
                    own = await taken(journal)
                    there = await last(journal)
                    assert there - acknowledged in (0, 1)
                    acknowledged = there
                else:
                    acknowledged += 1
            killing.cancel()
        assert await log(journal) == list(range(1, acknowledged + 1))


async def test_a_killed_server_is_unavailable_until_it_is_back(own_server: Server) -> None:
    acknowledged, failures = 0, list[JournalError]()
    async with opened(await own_server.journal()) as journal:
        own = await taken(journal)
        for seq in count(1):
            if seq == 20:
                own_server.kill()
            try:
                await journal.append([group(own, seq)])
            except JournalError as error:
                failures.append(error)
                break
            acknowledged = seq
        for _ in range(3):
            with pytest.raises(Unavailable):
                await journal.append([group(own, acknowledged + 1)])
        with pytest.raises(Unavailable):
            await last(journal)
        own_server.start()
        own = await again(lambda: taken(journal))
        assert await again(lambda: last(journal)) == acknowledged
        assert await again(lambda: journal.append([group(own, acknowledged + 1)]))
        assert await log(journal) == list(range(1, acknowledged + 2))
    assert isinstance(failures[0], InDoubt)


async def again(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until a connection has found the server: between attempts each says that it is away."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await ask()
            except Unavailable:
                await asyncio.sleep(0.05)  # less than the pause between attempts


async def test_an_append_to_a_frozen_server_is_in_doubt_at_the_limit(own_server: Server) -> None:
    async with opened(await own_server.journal(), limit_s=1.0) as journal:
        own = await taken(journal)
        assert await journal.append([group(own, 1)])
        own_server.freeze()
        begin = now()
        with pytest.raises(InDoubt):
            await journal.append([group(own, 2)])
        assert 1.0 <= now() - begin < 3.0
        with pytest.raises(Unavailable):
            await last(journal)
        own_server.thaw()
        own = await taken(journal)
        there = await last(journal)
        assert there in (1, 2)
        assert await journal.append([group(own, there + 1)])


async def test_an_append_whose_caller_is_cancelled_is_done(own_server: Server) -> None:
    async with opened(await own_server.journal()) as journal:
        own = await taken(journal)
        assert await journal.append([group(own, 1)])
        own_server.freeze()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await journal.append([group(own, 2)])
        own_server.thaw()
        assert await journal.append([group(own, 3)])
        assert await log(journal) == [1, 2, 3]


async def test_a_wait_for_a_standby_that_somebody_ends_is_in_doubt(own_server: Server) -> None:
    """PostgreSQL then answers "done", with a warning."""
    dsn = await own_server.journal()
    async with opened(dsn) as journal, superuser(dsn) as other:
        own = await taken(journal)
        assert await journal.append([group(own, 1)])
        await other.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        await other.execute("SELECT pg_reload_conf()")

        async def end_waits() -> None:
            while True:
                await other.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                    " WHERE wait_event = 'SyncRep'"
                )
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as tasks, asyncio.timeout(ANSWER_S):
            ending = tasks.create_task(end_waits())
            with pytest.raises(InDoubt, match="canceling wait for synchronous replication"):
                await append_on(journal, own)  # until the setting is in force
            ending.cancel()
        assert len(await log(journal)) > 1


async def test_a_record_that_cannot_be_kept_keeps_all_of_its_append_out(journal_dsn: str) -> None:
    async with opened(journal_dsn) as journal:
        own = {shard: await taken(journal, shard) for shard in range(2 * LANES)}
        for wrong in (group(own[1], 2, 2, shard=1), group(own[1], 1, shard=1, key="a\0")):
            with pytest.raises(Clash):
                await journal.append([group(own[0], 1), wrong])
        for shard, fence in own.items():
            assert await journal.append([group(fence, 1, shard=shard)])
            assert await log(journal, shard) == [1]


async def test_what_a_server_refuses_may_be_asked_again(postgres: Server, journal_dsn: str) -> None:
    """Too many connections, a server that has become read-only: and then not any more."""
    role = f"worker_{uuid4().hex}"
    async with superuser(journal_dsn) as other:
        await other.execute(f"CREATE ROLE {role} LOGIN")
        await other.execute(f"GRANT USAGE ON SCHEMA seedbed TO {role}")
        await other.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA seedbed TO {role}")
        dsn = journal_dsn.replace("seedbed@", f"{role}@")
        for refusing, serving in [
            ("CONNECTION LIMIT 0", "CONNECTION LIMIT -1"),
            ("SET default_transaction_read_only = on", "RESET default_transaction_read_only"),
        ]:
            async with opened(dsn) as journal:
                own = await taken(journal)
                before = await last(journal)
                await other.execute(f"ALTER ROLE {role} {refusing}")
                with pytest.raises(Unavailable):
                    await journal.append([group(own, before + 1)])
                await other.execute(f"ALTER ROLE {role} {serving}")
                assert await journal.append([group(own, before + 1)])
