"""The fence holds while processes take each other's shards, and the stress would see it if not."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from seedbed_worker.journal import sqlite_statements
from seedbed_worker.journal.sqlite import SqliteJournal
from tests.integration.journal.holed import NO_FENCE, NO_WRITER, holed
from tests.support.fence_stress import Plan, stress

pytestmark = pytest.mark.integration

TAKEOVERS = 1000


@pytest.mark.timeout(150)
async def test_nothing_is_written_behind_a_takeovers_recovery(tmp_path: Path) -> None:
    verdict = await stress(Plan(partial(SqliteJournal, tmp_path / "journal.db"), TAKEOVERS))
    print(verdict)
    assert (verdict.late, verdict.lost, verdict.gaps) == (0, 0, 0)
    assert verdict.counts["takeovers"] >= TAKEOVERS
    assert verdict.counts["Clash"] == verdict.counts["InDoubt"] == 0
    for happened in ("self-fences", "refused"):
        assert verdict.counts[happened] > 0


@pytest.mark.timeout(150)
@pytest.mark.parametrize("check", [NO_FENCE, NO_WRITER], ids=["no fence", "no writer"])
async def test_a_hole_in_the_fence_is_found(
    tmp_path: Path, check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sqlite_statements, "FENCED", sqlite_statements.FENCED
    )  # put back at the end
    make = partial(holed, tmp_path / "journal.db", check)
    verdict = await stress(Plan(make, takeovers=200))
    print(verdict)
    assert verdict.late > 0
