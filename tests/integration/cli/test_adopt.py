"""`seedbed adopt` before it reaches a cluster: what is wrong is said, and no journal is made."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from seedbed_worker.journal.sqlite import SqliteJournal

pytestmark = pytest.mark.integration


async def adopt(journal: str, *arguments: str, **env: str) -> tuple[int, dict[str, str]]:
    """Exit code, and what is printed to stderr."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SEEDBED_")}
    settings = {"SEEDBED_JOURNAL": journal, "SEEDBED_SEEDS": "127.0.0.1:1", **env}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "seedbed.cli", "adopt", "-o", "json", *arguments),
        env=inherited | settings,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        _, err = await process.communicate()
    said: dict[str, str] = json.loads(err)
    return await process.wait(), said


async def bound(path: Path) -> None:
    journal = SqliteJournal(path)
    await journal.open("default")
    await journal.bind("lost")
    await journal.close()


@pytest.mark.parametrize("journal", ["none", "file.db"])
async def test_a_journal_that_cannot_be_one_is_wrong_usage(journal: str) -> None:
    code, said = await adopt(journal)
    assert code == 2
    assert said["message"].startswith("SEEDBED_JOURNAL: found")


@pytest.mark.parametrize("force", [[], ["--force"]])
async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, force: list[str]) -> None:
    code, said = await adopt(f"sqlite:///{tmp_path}/seedbed.db", *force)
    assert (code, said["reason"]) == (1, "STORE_UNAVAILABLE")
    assert f"{tmp_path}/seedbed.db cannot be opened" in said["message"]
    assert not list(tmp_path.iterdir())


async def test_a_journal_of_another_cluster_is_refused(tmp_path: Path) -> None:
    await bound(tmp_path / "seedbed.db")
    code, said = await adopt(f"sqlite:///{tmp_path}/seedbed.db", SEEDBED_CLUSTER="staging")
    assert (code, said["code"], said["reason"]) == (1, "FAILED_PRECONDITION", "WRONG_JOURNAL")


async def test_without_a_seed_the_journal_stays_as_it_is(tmp_path: Path) -> None:
    await bound(tmp_path / "seedbed.db")
    code, _ = await adopt(f"sqlite:///{tmp_path}/seedbed.db")
    assert code == 3
    journal = SqliteJournal(tmp_path / "seedbed.db")
    assert (await journal.open("default")).cluster_uid == "lost"
    await journal.close()
