"""Careful callers: each call has a name, and is repeated under it until it is answered; and then
once more."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

import grpc
import grpc.aio
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from seedbed import once, reason
from tests.support.waiting import until

PAUSE_S = 0.05
"""Before a repeat."""
AGAIN = frozenset(
    {
        "OUTCOME_UNKNOWN",
        "MOVING",
        "NO_WORKERS",
        "STORE_UNAVAILABLE",
        "DEADLINE",
        "SEED_NOT_READY",
    }
)


@dataclass
class Deed:
    """One increment."""

    key: str
    name: str
    first: pb.Count | None = None
    again: pb.Count | None = None
    tries: int = 0


@asynccontextmanager
async def careful_callers(
    entry: str, keys: Sequence[str], callers: int
) -> AsyncGenerator[list[Deed]]:
    """So many callers add to the keys in turn. When the scope ends, they end what they do."""
    deeds: list[Deed] = []
    ended = asyncio.Event()

    async def call_on(caller: int, stub: rpc.CensusAsyncStub) -> None:
        for number in count():
            if ended.is_set():
                return
            deed = Deed(keys[(caller + number) % len(keys)], f"deed-{caller}-{number}")
            deeds.append(deed)
            deed.first = await _insist(deed, stub)
            deed.again = await _insist(deed, stub)

    async with grpc.aio.insecure_channel(entry) as channel, asyncio.TaskGroup() as tasks:
        for caller in range(callers):
            tasks.create_task(call_on(caller, rpc.CensusStub(channel)))
        yield deeds
        ended.set()


async def done(deeds: Sequence[Deed], many: int, *, within: float = 30.0) -> None:
    """Wait until so many deeds are done."""
    await until(
        f"{many} deeds are done",
        lambda: sum(deed.again is not None for deed in deeds) >= many,
        within=within,
    )


def check_done_once(deeds: Iterable[Deed]) -> None:
    """Each deed counted once, and all that it was answered is the same."""
    counts: dict[str, list[int]] = defaultdict(list)
    for deed in deeds:
        assert deed.first is not None
        assert deed.again is not None
        assert (deed.again.count, deed.again.name) == (deed.first.count, deed.first.name)
        counts[deed.key].append(deed.first.count)
    for key, given in counts.items():
        assert sorted(given) == list(range(1, len(given) + 1)), f"{key}: {sorted(given)}"


async def _insist(deed: Deed, stub: rpc.CensusAsyncStub) -> pb.Count:
    while True:
        deed.tries += 1
        try:
            return await stub.Add(pb.Person(name=deed.key), timeout=2, metadata=once(deed.name))
        except grpc.aio.AioRpcError as error:
            gave_up = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if not gave_up and reason(error) not in AGAIN:
                raise
            await asyncio.sleep(PAUSE_S)
