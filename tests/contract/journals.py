"""What the tests of journals share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias
from uuid import uuid4

from seedbed_worker.journal.port import Fence, Group, Journal, Kind, Record

CLUSTER = "test"
TYPE = "bank.Account"
COUNTS = {TYPE: 4096, "bank.Transfer": 8}

Maker: TypeAlias = Callable[[], Journal]
"""Makes a journal over the one store of a test."""


@asynccontextmanager
async def opened(make: Maker, counts: Mapping[str, int] = COUNTS) -> AsyncGenerator[Journal]:
    journal = make()
    try:
        await journal.open(CLUSTER)
        await journal.enter(counts)
        yield journal
    finally:
        await journal.close()


def fence(epoch: int) -> Fence:
    return Fence(epoch, uuid4())


async def taken(journal: Journal, shard: int, epoch: int) -> Fence:
    new = fence(epoch)
    await journal.take(TYPE, shard, new)
    return new


def record(key: str, seq: int, data: bytes = b"data", *, request_id: str = "") -> Record:
    return Record(key, seq, Kind.STATE, data, time_ms=1_700_000_000_000, request_id=request_id)


async def written(journal: Journal, shard: int, fence: Fence, *records: Record) -> bool:
    """Whether it was let in."""
    owned = await journal.append([Group(TYPE, shard, fence, records)])
    assert set(owned) <= {(TYPE, shard)}
    return bool(owned)


async def log(journal: Journal, shard: int) -> list[Record]:
    """All records of a shard, in the order of their commits; fails if offsets have gaps."""
    tail = await journal.tail(TYPE, shard, 0, 10_000)
    assert [one.off for one in tail] == list(range(1, len(tail) + 1))
    return [one.record for one in tail]
