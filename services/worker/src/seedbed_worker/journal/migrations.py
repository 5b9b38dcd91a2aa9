"""Which of this release's schema changes a journal still needs.

They are numbered SQL files, one folder per engine. They only go forward. What a journal has been
through is in its table `schema_version` (number, checksum), which the adapter keeps locked while it
applies what is pending.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from seedbed_worker.journal.port import WrongJournal


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: `0001_journal.sql` has the number 1."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of its text, in hexadecimal."""
        return sha256(self.sql.encode()).hexdigest()


def migrations(engine: str) -> Sequence[Migration]:
    """All that this release has for an engine, a folder's name, in their order."""
    folder = files("seedbed_worker.journal").joinpath("sql", engine)
    found = [
        Migration(int(file.name.partition("_")[0]), file.name, file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.number)


def pending(known: Sequence[Migration], applied: Mapping[int, str]) -> Sequence[Migration]:
    """Those not applied yet; `applied` has the checksum of each number that is.

    Raises `WrongJournal`: another release has been there, whose schema this one does not know.
    """
    checksums = {migration.number: migration.checksum for migration in known}
    for number, checksum in sorted(applied.items()):
        if number not in checksums:
            raise WrongJournal(
                f"the journal has schema version {number}, but this release knows none above"
                f" {max(checksums)}: run the release that made it, or a newer one"
            )
        if checksum != checksums[number]:
            raise WrongJournal(
                f"the journal's schema version {number} has checksum {checksum[:12]}…, but in this"
                f" release it is {checksums[number][:12]}…: it was made by a changed build"
            )
    return [migration for migration in known if migration.number not in applied]
