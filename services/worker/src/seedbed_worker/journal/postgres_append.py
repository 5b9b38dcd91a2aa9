"""One append to PostgreSQL: the columns of its groups and of their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from seedbed_worker.journal.port import Clash, Group, ShardKey
from seedbed_worker.journal.postgres_errors import blames_records, said
from seedbed_worker.journal.postgres_session import Session


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
        )
    except asyncpg.PostgresError as error:
        if blames_records(error):
            raise Clash(said(error)) from error
        raise
    places: list[int] = [row["place"] for row in rows]
    return {(groups[place - 1].type, groups[place - 1].shard) for place in places}
