"""The stress of a journal's fence: processes that take each other's shards while they append.

An owner goes on appending until it is refused. After each take it reads all that the shard has, as
a recovery does: nothing of an earlier owner may be written behind what it read. A record's data
says under which take its owner wrote it, so that the logs, read at the end, tell.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import NamedTuple
from uuid import uuid4

from seedbed_worker.journal.port import (
    Clash,
    Fence,
    Group,
    InDoubt,
    Journal,
    Kind,
    Record,
    Superseded,
    Unavailable,
    Written,
)

CLUSTER = "stress"
TYPE = "stress.Entity"


@dataclass(frozen=True)
class Plan:
    """What is run. `make` makes a journal over the one store; it is sent to other processes."""

    make: Callable[[], Journal]
    takeovers: int
    """In all at least; each owner makes its share."""
    owners: int = 4
    shards: int = 8
    keys: int = 4
    """Of each shard."""
    limit_s: float = 100.0
    """Longer than it takes on a busy machine; then it fails."""
    go_on_until: Path | None = None
    """The owners do not end before this file is there."""


class Token(NamedTuple):
    """A take's place among the takes of its shard."""

    epoch: int
    again: int
    """How often its owner has fenced itself under this epoch."""


class Took(NamedTuple):
    shard: int
    token: Token
    read_to: int
    """The offset of the last record that the recovery has read."""


class Acknowledged(NamedTuple):
    shard: int
    key: str
    seq: int
    token: Token


@dataclass
class Witnessed:
    """What the owners saw."""

    took: list[Took] = field(default_factory=list[Took])
    acknowledged: list[Acknowledged] = field(default_factory=list[Acknowledged])
    counts: Counter[str] = field(default_factory=Counter[str])
    """Of takeovers, self-fences, and what the journal refused."""

    def __add__(self, other: Witnessed) -> Witnessed:
        return Witnessed(
            self.took + other.took,
            self.acknowledged + other.acknowledged,
            self.counts + other.counts,
        )


@dataclass(frozen=True)
class Verdict:
    """What it comes to: the numbers of what may not happen, and how much happened."""

    late: int
    """Takes behind whose recovery something older was written."""
    lost: int
    """Acknowledged records that are not there."""
    gaps: int
    """Places in the logs, or in the numbers of an entity, that are left out or taken twice."""
    records: int
    counts: Mapping[str, int]


async def stress(plan: Plan) -> Verdict:
    """Run it, in processes of its own; the store must be empty."""
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(plan.owners, mp_context=get_context("spawn")) as pool:
        async with asyncio.TaskGroup() as group:
            owners = [
                group.create_task(_result(loop.run_in_executor(pool, _own, plan, number)))
                for number in range(plan.owners)
            ]
    witnessed = sum((owner.result() for owner in owners), Witnessed())
    return judge(await _logs(plan), witnessed)


def judge(logs: Sequence[Sequence[Written]], witnessed: Witnessed) -> Verdict:
    """By each shard's whole log."""
    tokens = [[_token(one.record) for one in log] for log in logs]
    oldest_behind = [_oldest_behind(shard) for shard in tokens]
    late = sum(oldest_behind[took.shard][took.read_to] < took.token for took in witnessed.took)
    there = {
        Acknowledged(shard, one.record.key, one.record.seq, _token(one.record))
        for shard, log in enumerate(logs)
        for one in log
    }
    gaps = 0
    for log in logs:
        seqs: Counter[str] = Counter()
        for off, one in enumerate(log, start=1):
            seqs[one.record.key] += 1
            gaps += one.off != off
            gaps += one.record.seq != seqs[one.record.key]
    return Verdict(
        late=late,
        lost=len(set(witnessed.acknowledged) - there),
        gaps=gaps,
        records=len(there),
        counts=witnessed.counts,
    )


def _oldest_behind(tokens: Sequence[Token]) -> list[Token]:
    """For each offset from 0, the lowest token that was written behind it."""
    lowest = Token(2**63, 0)
    behind = [lowest]
    for token in reversed(tokens):
        lowest = min(lowest, token)
        behind.append(lowest)
    return behind[::-1]


def _token(record: Record) -> Token:
    epoch, again = record.data.split()
    return Token(int(epoch), int(again))


async def _result(future: asyncio.Future[Witnessed]) -> Witnessed:
    return await future


async def _logs(plan: Plan) -> list[Sequence[Written]]:
    journal = plan.make()
    try:
        await journal.open(CLUSTER)
        await journal.enter({TYPE: plan.shards})
        return [await journal.tail(TYPE, shard, 0, 10**9) for shard in range(plan.shards)]
    finally:
        await journal.close()


def _own(plan: Plan, number: int) -> Witnessed:
    """One process."""
    return asyncio.run(_owner(plan, number))


async def _owner(plan: Plan, number: int) -> Witnessed:
    writer, fencer = plan.make(), plan.make()  # so that its own takes overtake its appends
    try:
        for journal in (writer, fencer):
            await journal.open(CLUSTER)
            await journal.enter({TYPE: plan.shards})
        owner = _Owner(plan, number, writer, fencer)
        async with asyncio.timeout(plan.limit_s):
            await owner.run()
        return owner.witnessed
    finally:
        await writer.close()
        await fencer.close()


@dataclass(eq=False)
class _Owned:
    shard: int
    fence: Fence
    token: Token
    seqs: dict[str, int]


class _Owner:
    def __init__(self, plan: Plan, number: int, writer: Journal, fencer: Journal) -> None:
        self.witnessed = Witnessed()
        self._plan = plan
        self._number = number
        self._writer = writer
        self._fencer = fencer
        self._random = Random(number)
        self._keys = [f"{number}" for number in range(plan.keys)]
        self._owned: dict[int, _Owned] = {}
        self._appended = asyncio.Event()
        self._done = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._append_on())
            share = -(-self._plan.takeovers // self._plan.owners)
            until = self._plan.go_on_until
            while self.witnessed.counts["takeovers"] < share or (until and not until.exists()):
                await self._take_over(self._random.randrange(self._plan.shards))
                if self._owned and self._random.random() < 0.3:
                    await self._fence_itself(self._random.choice([*self._owned.values()]))
                self._appended.clear()
                await self._appended.wait()
            self._done = True

    async def _take_over(self, shard: int) -> None:
        epoch = time.time_ns() // 16 * 16 + self._number
        await self._take(shard, Token(epoch, 0), "takeovers")

    async def _fence_itself(self, owned: _Owned) -> None:
        again = owned.token._replace(again=owned.token.again + 1)
        await self._take(owned.shard, again, "self-fences")

    async def _take(self, shard: int, token: Token, what: str) -> None:
        fence = Fence(token.epoch, uuid4())
        try:
            await self._fencer.take(TYPE, shard, fence)
            histories = await self._fencer.load(TYPE, shard, self._keys)
        except (Superseded, Unavailable, InDoubt) as error:
            self.witnessed.counts[f"{type(error).__name__} take"] += 1
            return
        seqs = {key: history.seq for key, history in histories.items()}
        self._owned[shard] = _Owned(shard, fence, token, seqs)
        # Each record is one number of one entity, so the last numbers say how many were read.
        self.witnessed.took.append(Took(shard, token, sum(seqs.values())))
        self.witnessed.counts[what] += 1

    async def _append_on(self) -> None:
        while not self._done:
            await asyncio.sleep(0)  # an append of nothing may wait for nothing
            batch = [owned for owned in self._owned.values() if self._random.random() < 0.7]
            groups = [self._group(owned) for owned in batch]
            try:
                written = await self._writer.append(groups)
            except (Unavailable, InDoubt, Clash) as error:
                self.witnessed.counts[type(error).__name__] += 1
                if not isinstance(error, Unavailable):
                    for owned in batch:
                        await self._doubt(owned)
            else:
                for owned, group in zip(batch, groups, strict=True):
                    self._settle(owned, group, (TYPE, owned.shard) in written)
            self._appended.set()

    def _group(self, owned: _Owned) -> Group:
        seqs = Counter(owned.seqs)
        records: list[Record] = []
        for _ in range(self._random.randint(1, 3)):
            key = self._random.choice(self._keys)
            seqs[key] += 1
            data = b"%d %d" % owned.token
            records.append(Record(key, seqs[key], Kind.STATE, data, 0))
        return Group(TYPE, owned.shard, owned.fence, records)

    def _settle(self, owned: _Owned, group: Group, written: bool) -> None:
        if written:
            for record in group.records:
                owned.seqs[record.key] = record.seq
                self.witnessed.acknowledged.append(
                    Acknowledged(owned.shard, record.key, record.seq, owned.token)
                )
            return
        self.witnessed.counts["refused"] += 1
        self._forget(owned)

    async def _doubt(self, owned: _Owned) -> None:
        """Nobody knows what became of its records: fence, then read."""
        if self._owned.get(owned.shard) is owned:
            await self._fence_itself(owned)
            self._forget(owned)

    def _forget(self, owned: _Owned) -> None:
        if self._owned.get(owned.shard) is owned:
            del self._owned[owned.shard]
