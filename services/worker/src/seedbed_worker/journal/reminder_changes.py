"""What several records of a shard come to for its reminders, where one statement writes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from seedbed_worker.core.reminders import Appointment
from seedbed_worker.journal.port import Kind, Record


class NetChanges(NamedTuple):
    """First all reminders of the entities in `wiped` go, then those in `dropped`; then these are
    set. By key, method and name."""

    wiped: set[str]
    dropped: set[tuple[str, str, str]]
    new: dict[tuple[str, str, str], Appointment]


def net_changes(records: Iterable[Record]) -> NetChanges:
    """In the order of the records."""
    changes = NetChanges(set(), set(), {})
    for record in records:
        if record.kind is Kind.DELETED:
            changes.wiped.add(record.key)
            for place in [one for one in changes.new if one[0] == record.key]:
                del changes.new[place]
        for method, name, appointment in record.reminders:
            place = (record.key, method, name)
            if appointment is None:
                changes.new.pop(place, None)
                changes.dropped.add(place)
            else:
                changes.dropped.discard(place)
                changes.new[place] = appointment
    return changes
