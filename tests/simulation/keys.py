"""Where the store keeps what, and how a member's record is read."""

from __future__ import annotations

from dataclasses import replace

from seedbed_seed.core.membership import Worker
from tests.simulation.store import Entry

ROLE = "sharding"
VOLATILE, DURABLE = "volatile", "durable"
"""The two types."""

SHARDS = 4
"""Of each type."""

MEMBERS, TABLES, ORDERS = "members/", "tables/", "orders"


def worker_of(entry: Entry) -> Worker | None:
    """The worker of a member's record, with the record's revisions."""
    if not isinstance(entry.value, Worker):
        return None
    return replace(
        entry.value, create_revision=entry.create_revision, mod_revision=entry.mod_revision
    )


def table_key(type_: str, chunk: int) -> str:
    return f"{TABLES}{type_}/{chunk}"
