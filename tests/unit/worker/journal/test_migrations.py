"""Which schema changes a journal still needs, and which journals are not this release's."""

from __future__ import annotations

import pytest

from seedbed_worker.journal.migrations import Migration, migrations, pending
from seedbed_worker.journal.port import WrongJournal

FIRST = Migration(1, "0001_a.sql", "CREATE TABLE a (b);\n")
SECOND = Migration(2, "0002_b.sql", "CREATE TABLE b (c);\n")


def test_what_is_not_applied_is_pending_in_order() -> None:
    assert pending([FIRST, SECOND], {}) == [FIRST, SECOND]
    assert pending([FIRST, SECOND], {1: FIRST.checksum}) == [SECOND]
    assert pending([FIRST, SECOND], {1: FIRST.checksum, 2: SECOND.checksum}) == []


def test_a_newer_schema_is_another_releases() -> None:
    with pytest.raises(WrongJournal, match=r"schema version 2\b.*none above 1\b"):
        pending([FIRST], {1: FIRST.checksum, 2: SECOND.checksum})


def test_a_changed_migration_is_another_builds() -> None:
    with pytest.raises(WrongJournal, match=rf"version 1 .*{SECOND.checksum[:12]}"):
        pending([FIRST, SECOND], {1: SECOND.checksum})


@pytest.mark.parametrize("engine", ["sqlite"])
def test_the_migrations_of_a_release_are_numbered_without_gaps(engine: str) -> None:
    found = migrations(engine)
    assert found
    assert [migration.number for migration in found] == list(range(1, len(found) + 1))
    assert all(migration.name.startswith(f"{migration.number:04}_") for migration in found)
    assert len({migration.checksum for migration in found}) == len(found)
