"""The fence in PostgreSQL holds while shards are taken and connections are killed."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from random import Random

import asyncpg
import pytest

from seedbed_worker.journal import postgres_session
from seedbed_worker.journal.postgres import PostgresJournal
from seedbed_worker.journal.postgres_statements import APPEND
from tests.support.fence_stress import Plan, Verdict, stress

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

TAKEOVERS = 1000
KILLS = 200

CHECK = "USING (type, shard, epoch, writer)"
HOLES = {"no fence": "USING (type, shard)", "no writer": "USING (type, shard, epoch)"}

KILL = r"""
SELECT count(pg_terminate_backend(pid)) FROM (
  SELECT pid FROM pg_stat_activity
  WHERE datname = current_database() AND query LIKE E'\nWITH %' ORDER BY random() LIMIT 1
) one
"""
"""Of those that have appended, taken or loaded; a journal that is being opened is left alone."""


def journal(dsn: str) -> PostgresJournal:
    return PostgresJournal(lambda: dsn)


def holed(dsn: str, hole: str) -> PostgresJournal:
    """One whose append lacks a part of the fence."""
    assert CHECK in APPEND
    pytest.MonkeyPatch().setattr(postgres_session, "APPEND", APPEND.replace(CHECK, HOLES[hole]))
    return journal(dsn)


async def while_killing(dsn: str, plan: Plan) -> tuple[Verdict, int]:
    """The verdict, and how many connections were killed: `KILLS` at least, however fast the owners
    are."""
    assert plan.go_on_until is not None
    random, killed = Random(1), 0
    killer = await asyncpg.connect(dsn)
    try:
        async with asyncio.TaskGroup() as group:
            stressing = group.create_task(stress(plan))
            while not stressing.done():
                killed += await killer.fetchval(KILL)
                if killed >= KILLS:
                    plan.go_on_until.touch()
                await asyncio.sleep(random.uniform(0.03, 0.1))
        return stressing.result(), killed
    finally:
        await killer.close()


async def deadlocks(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(
            await connection.fetchval(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            )
        )
    finally:
        await connection.close()


async def test_nothing_is_late_or_lost_though_connections_are_killed(
    journal_dsn: str, tmp_path: Path
) -> None:
    make = partial(journal, journal_dsn)
    plan = Plan(make, TAKEOVERS, limit_s=150, go_on_until=tmp_path / "enough")
    verdict, killed = await while_killing(journal_dsn, plan)
    print(verdict, killed)
    assert (verdict.late, verdict.lost, verdict.gaps) == (0, 0, 0)
    assert verdict.counts["takeovers"] >= TAKEOVERS
    assert killed >= KILLS
    assert verdict.counts["Clash"] == 0
    for happened in ("self-fences", "refused", "InDoubt"):
        assert verdict.counts[happened] > 0
    assert await deadlocks(journal_dsn) == 0


@pytest.mark.parametrize("hole", HOLES)
async def test_a_hole_in_the_fence_is_found(
    journal_dsn: str, hole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_session, "APPEND", APPEND)  # is put back at the end
    verdict = await stress(Plan(partial(holed, journal_dsn, hole), takeovers=200))
    print(verdict)
    assert verdict.late > 0
