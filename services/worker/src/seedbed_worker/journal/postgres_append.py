"""One append to PostgreSQL: the columns of its groups and of their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from seedbed_worker.journal.port import Clash, Group, ShardKey
from seedbed_worker.journal.postgres_errors import blames_records, said
from seedbed_worker.journal.postgres_session import Session
from seedbed_worker.journal.reminder_changes import net_changes


async def append(
    types: Mapping[str, int], groups: Sequence[Group], session: Session
) -> set[ShardKey]:
    """Write the groups whose fence holds: all of them, or nothing.

    `types` has the ids of the types. Raises what asyncpg raises, `Clash` and `InDoubt`.
    """
    records = [
        (place, nth, record)
        for place, group in enumerate(groups, start=1)
        for nth, record in enumerate(group.records, start=1)
    ]
    changes = [(place, net_changes(group.records)) for place, group in enumerate(groups, start=1)]
    gone: list[tuple[int, str, str | None, str | None]] = [
        one
        for place, net in changes
        for one in (
            *((place, key, None, None) for key in net.wiped),
            *((place, *reminder) for reminder in net.dropped),
        )
    ]
    new = [(place, *one) for place, net in changes for one in net.new.items()]
    try:
        rows = await session.append(
            [types[group.type] for group in groups],
            [group.shard for group in groups],
            [group.fence.epoch for group in groups],
            [group.fence.writer for group in groups],
            [len(group.records) for group in groups],
            [place for place, _, _ in records],
            [nth for _, nth, _ in records],
            [record.key for _, _, record in records],
            [record.seq for _, _, record in records],
            [record.kind for _, _, record in records],
            [record.data for _, _, record in records],
            [record.request_id for _, _, record in records],
            [record.outcome for _, _, record in records],
            [record.keep_until_ms for _, _, record in records],
            [record.time_ms for _, _, record in records],
            [place for place, _, _, _ in gone],
            [key for _, key, _, _ in gone],
            [method for _, _, method, _ in gone],
            [name for _, _, _, name in gone],
            [place for place, _, _ in new],
            [key for _, (key, _, _), _ in new],
            [method for _, (_, method, _), _ in new],
            [name for _, (_, _, name), _ in new],
            [one.due_ms for _, _, one in new],
            [one.every_ms for _, _, one in new],
            [one.count for _, _, one in new],
            [one.number for _, _, one in new],
            [one.begun_ms for _, _, one in new],
        )
    except asyncpg.PostgresError as error:
        if blames_records(error):
            raise Clash(said(error)) from error
        raise
    places: list[int] = [row["place"] for row in rows]
    return {(groups[place - 1].type, groups[place - 1].shard) for place in places}
