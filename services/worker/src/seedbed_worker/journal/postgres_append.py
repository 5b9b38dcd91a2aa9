"""One append to PostgreSQL: a statement for each lane, and what these have come to together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import asyncpg

from seedbed_worker.journal.port import Clash, Group, InDoubt, JournalError, ShardKey
from seedbed_worker.journal.postgres_errors import blames_records, said
from seedbed_worker.journal.postgres_session import Session


async def write(
    types: Mapping[str, int], groups: Sequence[Group], session: Session
) -> set[ShardKey]:
    """Write the groups whose fence holds. Those in which nothing is wrong, if there is another.

    `types` has the ids of the types. Raises what asyncpg raises, `Clash` and `InDoubt`.
    """
    try:
        return await _append(session, types, groups)
    except asyncpg.PostgresError as error:
        if not blames_records(error):
            raise
        if len(groups) == 1:
            raise _clash(error, groups[0]) from error
    written: set[ShardKey] = set()
    wrong: Clash | None = None
    for group in groups:
        try:
            written |= await write(types, [group], session)
        except Clash as clash:
            wrong = clash
        except (OSError, asyncpg.PostgresError) as error:
            raise InDoubt(f"a part of it is written: {said(error)}") from error
    if wrong is None:
        return written
    wrong.written = written
    raise wrong


def together(lanes: Sequence[asyncio.Future[set[ShardKey]]]) -> set[ShardKey]:
    """What the lanes, all done, have written; raises what holds for all that was asked of them."""
    errors = [error for lane in lanes if (error := lane.exception()) is not None]
    written = {shard for lane in lanes if lane.exception() is None for shard in lane.result()}
    if not errors:
        return written
    for error in errors:
        if isinstance(error, InDoubt) or not isinstance(error, JournalError):
            raise error
    clashes = [error for error in errors if isinstance(error, Clash)]
    written.update(*(clash.written for clash in clashes))
    if len(clashes) == len(errors):
        clashes[0].written = written
        raise clashes[0]
    if written:
        raise InDoubt(f"a part of it is written: {errors[0]}")
    raise errors[0]


async def _append(
    session: Session, types: Mapping[str, int], groups: Sequence[Group]
) -> set[ShardKey]:
    """One statement, which does all or nothing but for the groups whose fence does not hold."""
    records = [
        (place, nth, record)
        for place, group in enumerate(groups, start=1)
        for nth, record in enumerate(group.records, start=1)
    ]
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
    places: list[int] = [row["place"] for row in rows]
    return {(groups[place - 1].type, groups[place - 1].shard) for place in places}


def _clash(error: asyncpg.PostgresError, group: Group) -> Clash:
    return Clash(f"shard {group.shard} of {group.type}: {said(error)}")
