"""Streams that stay open while shards move: how each ended, and when it was open again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc.aio
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from seedbed import reason
from tests.support.load import Dial
from tests.support.waiting import until


@dataclass(frozen=True)
class End:
    """The end of one stream; `back_s`: until the next item came on a new one (None: not yet)."""

    key: str
    at: float
    reason: str
    text: str
    back_s: float | None = None


@dataclass
class Watching:
    """What came of the streams so far."""

    keys: Sequence[str]
    items: dict[str, int] = field(default_factory=dict[str, int])
    ends: list[End] = field(default_factory=list[End])

    async def opened(self, within: float = 10.0) -> None:
        """Return when every stream has given its first item."""
        await until(
            "every stream is open", lambda: len(self.items) == len(self.keys), within=within
        )

    async def reopened(self, within: float = 5.0) -> None:
        """Return when no stream is on its way back."""
        await until(
            "every stream is open again",
            lambda: all(end.back_s is not None for end in self.ends),
            within=within,
        )

    @property
    def back_s(self) -> list[float]:
        """How long each stream that ended was away."""
        return [float("inf") if end.back_s is None else end.back_s for end in self.ends]

    def check(self, within: float = 1.0) -> None:
        """All ended with MOVING, and were open again in time. Raises `AssertionError`."""
        for end in self.ends:
            assert end.reason == "MOVING", f"unexpected end: {end}"
            away_s = float("inf") if end.back_s is None else end.back_s
            assert away_s <= within, f"away for too long: {end}"


@asynccontextmanager
async def watching(
    entries: Sequence[str], keys: Sequence[str], *, dial: Dial = grpc.aio.insecure_channel
) -> AsyncGenerator[Watching, None]:
    """Watch each key through the entries in turn, again after each end, until the scope ends."""
    record = Watching(keys)

    async def watch(key: str, number: int) -> None:
        async with dial(entries[number % len(entries)]) as channel:
            stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
            while True:
                await _once(record, stub, key)

    async with asyncio.TaskGroup() as streams:
        tasks = [streams.create_task(watch(key, number)) for number, key in enumerate(keys)]
        try:
            yield record
        finally:
            for task in tasks:
                task.cancel()


async def _once(record: Watching, stub: rpc.CensusAsyncStub, key: str) -> None:
    """From the opening to the end; a refusal to open belongs to the end before it."""
    time = asyncio.get_running_loop().time
    last = next((n for n in reversed(range(len(record.ends))) if record.ends[n].key == key), None)
    try:
        async for _ in stub.Watch(pb.Person(name=key)):
            record.items[key] = record.items.get(key, 0) + 1
            if last is not None and record.ends[last].back_s is None:
                end = record.ends[last]
                record.ends[last] = End(key, end.at, end.reason, end.text, time() - end.at)
        record.ends.append(End(key, time(), "", "a good end"))
    except grpc.aio.AioRpcError as error:
        record.ends.append(End(key, time(), reason(error), error.details() or ""))
        if last is not None and record.ends[last].back_s is None:
            record.ends[-1] = End(key, record.ends[last].at, reason(error), error.details() or "")
            del record.ends[last]
        await asyncio.sleep(0.02)
