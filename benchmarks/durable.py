"""What it costs that entities are durable: commands of a host over a journal, beside what the bare
engine does with rows of the same table in the same round. No sockets to clients."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Final
from uuid import uuid4

import uvloop
from census.v1 import census_pb2 as pb

from benchmarks.hosting import HOUR_NS, SHARDS, hosting
from benchmarks.report import Report
from seedbed.calls import EntityCall, Replied
from seedbed.clock import SystemClock
from seedbed.ids import Epoch, Generation
from seedbed.request_ids import RequestIds
from seedbed.sharding import shard_of
from seedbed_worker.host import Host
from seedbed_worker.journal.sqlite import SqliteJournal
from seedbed_worker.journal.store import JournalStore
from seedbed_worker.loader import host_class
from seedbed_worker.runtime import HostLimits
from tests.support.durable_census import DurableCensus

CALLERS: Final = 256
SECONDS: Final = 2.0
ROW: Final = b"x" * 20
INSERT: Final = """
INSERT INTO journal (type, shard, off, epoch, key, seq, kind, data, request_id, outcome,
  keep_until_ms, time_ms) VALUES (99, ?, ?, 1, ?, ?, 1, ?, ?, ?, 0, 0)
"""


def measure(report: Report, rounds: int) -> None:
    """SQLite, on the file system of temporary files."""
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_measure(report, Path(folder) / "journal.db", rounds))


async def _measure(report: Report, file: Path, rounds: int) -> None:
    journal = SqliteJournal(file)
    await journal.open("bench")
    await journal.enter({"census": SHARDS})
    store = JournalStore(
        journal,
        new_writer=uuid4,
        lost=lambda shard, superseded: False,
        epoch_seen=lambda type_, shard, epoch: None,
    )
    clock = SystemClock()
    raw = Raw(file)
    took: dict[str, list[float]] = {}
    async with hosting(host_class(DurableCensus), clock, HostLimits(), store) as (host, tasks):
        writing = tasks.create_task(store.run())
        calls = Calls(host, clock)
        works: dict[str, Callable[[], Awaitable[float]]] = {
            "raw batched": raw.batched,
            "256 callers": lambda: calls.rate([f"person-{n}" for n in range(CALLERS)]),
            "raw single": raw.single,
            "one entity": lambda: calls.rate(["hot"] * CALLERS),
            "raw single ms": raw.latency_ms,
            "one caller ms": lambda: calls.latency_ms("alone"),
        }
        for name, work in works.items():
            await work()  # warm
            took[name] = []
        for _ in range(rounds):
            for name, work in works.items():
                took[name].append(await work())
        writing.cancel()
    await journal.close()
    raw.close()

    def ratio(one: str, other: str) -> list[float]:
        return [a / b for a, b in zip(took[one], took[other], strict=True)]

    engine = "SQLite"
    report.add(f"{engine}: durable commands, {CALLERS} callers", took["256 callers"], "/s")
    report.add(
        f"{engine}: beside raw batched inserts", ratio("256 callers", "raw batched"), "x",
        at_least=0.35,
    )  # fmt: skip
    report.add(
        f"{engine}: beside inserts one by one", ratio("256 callers", "raw single"), "x", at_least=3
    )
    report.add(
        f"{engine}: one hot entity beside inserts one by one", ratio("one entity", "raw single"),
        "x", at_least=10,
    )  # fmt: skip
    report.add(
        f"{engine}: latency of one caller beside a raw insert",
        ratio("one caller ms", "raw single ms"), "x", at_most=2,
    )  # fmt: skip


class Calls:
    """Closed loops of calls that each change an entity."""

    def __init__(self, host: Host, clock: SystemClock) -> None:
        self._host = host
        self._deadline_ns = clock.now_ns() + HOUR_NS
        self._ids = RequestIds(clock)

    async def rate(self, keys: list[str]) -> float:
        """Commands a second, of a caller for each of these keys."""
        done = 0
        ends = perf_counter() + SECONDS
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        running = len(keys)

        def begin(key: str) -> None:
            self._host.submit(self._call(key), lambda answer: ended(key, answer))

        def ended(key: str, answer: object) -> None:
            nonlocal done, running
            assert isinstance(answer, Replied), answer
            done += 1
            if perf_counter() < ends:
                asyncio.get_running_loop().call_soon(begin, key)
                return
            running -= 1
            if not running:
                over.set_result(None)

        began = perf_counter()
        for key in keys:
            begin(key)
        await over
        return done / (perf_counter() - began)

    async def latency_ms(self, key: str) -> float:
        """Median of one caller."""
        took: list[float] = []
        for _ in range(500):
            answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            began = perf_counter()
            self._host.submit(self._call(key), answered.set_result)
            await answered
            took.append((perf_counter() - began) * 1e3)
        return statistics.median(took)

    def _call(self, key: str) -> EntityCall:
        return EntityCall(
            method="/census.v1.Census/Add",
            type="census",
            key=key,
            shard=shard_of(key.encode(), SHARDS),
            request=pb.Person(name=key).SerializeToString(),
            deadline_ns=self._deadline_ns,
            epoch=Epoch(1),
            generation=Generation(1),
            request_id=self._ids.mint(),
        )


class Raw:
    """Rows of the same table, without a fence, on a thread of its own."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA wal_autocheckpoint = 4000")
        self._number = 0

    async def batched(self) -> float:
        """Rows a second, in transactions of as many as there are callers."""
        return await asyncio.to_thread(self._rows, CALLERS)

    async def single(self) -> float:
        """Rows a second, each in a transaction of its own."""
        return await asyncio.to_thread(self._rows, 1)

    async def latency_ms(self) -> float:
        """Median of one row."""
        return await asyncio.to_thread(self._latency_ms)

    def close(self) -> None:
        self._connection.close()

    def _rows(self, size: int) -> float:
        began, done = perf_counter(), 0
        while perf_counter() - began < SECONDS:
            self._write(size)
            done += size
        return done / (perf_counter() - began)

    def _latency_ms(self) -> float:
        took: list[float] = []
        for _ in range(500):
            began = perf_counter()
            self._write(1)
            took.append((perf_counter() - began) * 1e3)
        return statistics.median(took)

    def _write(self, size: int) -> None:
        first = self._number
        self._number += size
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            INSERT,
            [
                (n % SHARDS, n, f"person-{n % CALLERS}", n, ROW, f"{n:032d}", ROW)
                for n in range(first, first + size)
            ],
        )
        self._connection.execute("COMMIT")


if __name__ == "__main__":
    alone = Report()
    measure(alone, 3)
    sys.stdout.write(alone.table() + "\n")
