"""What is kept of an entity in memory, as a journal keeps it; for tests and entities under test."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from seedbed_worker.core.outcomes import Kept
from seedbed_worker.core.reminders import Appointment, Listed
from seedbed_worker.journal.histories import history
from seedbed_worker.journal.port import History, Kind, Record, Snapshot


@dataclass(slots=True)
class EntityRecords:
    """One entity's."""

    records: list[Record] = field(default_factory=list[Record])
    """By their numbers."""
    snapshot: Snapshot | None = None
    reminders: dict[tuple[str, str], Appointment] = field(
        default_factory=dict[tuple[str, str], Appointment]
    )
    """By method and name."""

    def write(self, record: Record) -> None:
        """Keep it, and what it says of reminders: a deletion drops those that were there."""
        insort(self.records, record, key=lambda one: one.seq)
        if record.kind is Kind.DELETED:
            self.reminders.clear()
        for method, name, appointment in record.reminders:
            if appointment is None:
                self.reminders.pop((method, name), None)
            else:
                self.reminders[method, name] = appointment

    def keep(self, snapshot: Snapshot) -> None:
        """Keep it, if it is the newest."""
        if self.snapshot is None or self.snapshot.seq < snapshot.seq:
            self.snapshot = snapshot

    def history(self) -> History | None:
        """What a `Journal` loads."""
        snapshot = self.snapshot
        return history(
            ((one.seq, one.kind, one.data) for one in reversed(self.records)),
            (snapshot.seq, snapshot.data) if snapshot is not None else None,
        )

    def outcomes(self, most: int) -> Sequence[Kept]:
        """As a `Journal`'s."""
        return list(islice((one.kept() for one in self._newest_first() if one.request_id), most))

    def outcome(self, request_id: str) -> Kept | None:
        """As a `Journal`'s."""
        found = (one.kept() for one in self._newest_first() if one.request_id == request_id)
        return next(found, None)

    def _newest_first(self) -> Iterator[Record]:
        return reversed(self.records)


def page(
    reminders: Iterable[Listed], until_ms: int, after: Listed | None, limit: int
) -> Sequence[Listed]:
    """Of these, what a `Journal` lists."""
    found = [
        one
        for one in reminders
        if one.appointment.due_ms <= until_ms and (after is None or one.order > after.order)
    ]
    found.sort(key=lambda one: one.order)
    return found[:limit]
