"""The reminders in a SQLite file: written with their records, read as they fall due."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable

from seedbed_worker.core.reminders import Appointment, Listed, Place
from seedbed_worker.journal.port import Kind, Record

_SET = "INSERT OR REPLACE INTO reminder VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DROP = "DELETE FROM reminder WHERE type = ? AND shard = ? AND key = ? AND method = ? AND name = ?"
_DROP_ALL = "DELETE FROM reminder WHERE type = ? AND shard = ? AND key = ?"
_DUE = """
SELECT shard, key, method, name, due_ms, every_ms, count, number, begun_ms FROM reminder
WHERE type = ? AND due_ms <= ? AND (due_ms, shard, key, method, name) > (?, ?, ?, ?, ?)
AND shard IN (SELECT value FROM json_each(?))
ORDER BY due_ms, shard, key, method, name LIMIT ?
"""
_START = (-1, -1, "", "", "")


def write(
    connection: sqlite3.Connection, type_id: int, shard: int, records: Iterable[Record]
) -> None:
    """What these records change, within the transaction that writes them."""
    for record in records:
        entity = (type_id, shard, record.key)
        if record.kind is Kind.DELETED:
            connection.execute(_DROP_ALL, entity)
        for method, name, new in record.reminders:
            place = (*entity, method, name)
            if new is None:
                connection.execute(_DROP, place)
            else:
                times = (new.due_ms, new.every_ms, new.count, new.number, new.begun_ms)
                connection.execute(_SET, (*place, *times))


def due(
    connection: sqlite3.Connection,
    type_: str,
    type_id: int,
    shards: Collection[int],
    until_ms: int,
    after: Listed | None,
    limit: int,
) -> list[Listed]:
    """See `Journal.reminders`."""
    start = after.order if after is not None else _START
    asked = (type_id, until_ms, *start, json.dumps(list(shards)), limit)
    return [
        Listed(Place(type_, shard, key, method, name), Appointment(*times))
        for shard, key, method, name, *times in connection.execute(_DUE, asked)
    ]
