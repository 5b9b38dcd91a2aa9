"""The disk of a SQLite journal is full: changes are not acknowledged, reads go on, and all is well
again by itself once there is room."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from tests.support.cluster import cluster
from tests.support.full_disk import filled, limited, small_disk
from tests.support.kept import ENTITIES, FILE, check_nothing_lost, counts, sqlite_in
from tests.support.load import Call, Load, back, load, warm
from tests.support.waiting import now, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

KEYS = [f"person-{n}" for n in range(50)]
BUSY, IDLE = KEYS[:40], KEYS[40:]
NOT_KNOWN = {
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNAVAILABLE,
}


async def test_a_full_disk_refuses_changes_until_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, 48) as is_small:
        async with cluster(
            tmp_path, workers=2, entities=ENTITIES, worker_env=sqlite_in(disk)
        ) as running:
            await running.placed(2)
            async with load([running.entry], KEYS, per_s=200) as first:
                await warm(first, KEYS)
            idle = await counts(running.entry, IDLE)
            async with load([running.entry], BUSY, per_s=100, timeout=1.0) as record:
                await warm(record, BUSY)
                if is_small:
                    with filled(disk):
                        refused = await no_change_is_kept(record)
                        assert await counts(running.entry, IDLE) == idle
                    assert {call.reason for call in refused} == {"STORE_UNAVAILABLE"}
                    await back(record, BUSY, now(), within=10)
                log_size = (disk / f"{FILE}-wal").stat().st_size
                with limited(running.workers, log_size):
                    in_doubt = await no_change_is_kept(record)
                    assert await counts(running.entry, IDLE) == idle
                assert {call.code for call in in_doubt} <= NOT_KNOWN
                await back(record, BUSY, now(), within=10)
            print(record.summary())
            await check_nothing_lost(running.entry, [*first.calls, *record.calls])
        with closing(sqlite3.connect(disk / FILE)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def no_change_is_kept(record: Load) -> list[Call]:
    """Wait until a call of each busy entity has failed; all that have since now."""
    since = now()

    def failed() -> list[Call]:
        return [call for call in record.since(since) if not call.ok]

    await until("every change fails", lambda: {call.key for call in failed()} >= {*BUSY}, within=15)
    return failed()
