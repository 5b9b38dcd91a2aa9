"""An entity's history out of its records and its snapshot."""

from __future__ import annotations

from collections.abc import Iterable

from seedbed_worker.journal.port import History, Kind


def history(
    newest_first: Iterable[tuple[int, int, bytes]], snapshot: tuple[int, bytes] | None = None
) -> History | None:
    """What is kept, of the records' seq, kind and data, and the snapshot's seq and data.

    Reads no further back than it needs: records behind a state, a deletion or the snapshot may be
    many, or gone. None: nothing was ever kept.
    """
    since, state = snapshot or (0, None)
    seq = content = since
    exists = snapshot is not None
    events: list[bytes] = []
    for number, kind, data in newest_first:
        if number <= since:
            break
        seq = max(seq, number)
        if kind == Kind.NOTE:
            continue
        if number > content:
            content, exists = number, kind != Kind.DELETED
        if kind == Kind.EVENTS:
            events.append(data)
            continue
        state = data if kind == Kind.STATE else None
        break
    return History(seq, exists, state, tuple(reversed(events))) if seq else None
