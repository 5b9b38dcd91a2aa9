"""A cluster under the load of the movement tests, and everything that is checked afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Container, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import grpc
import grpc.aio
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from seedbed import reason
from seedbed.sharding import shard_of
from seedbed.v1 import admin_pb2, admin_pb2_grpc
from tests.support import witness
from tests.support.cluster import Cluster, Status, cluster
from tests.support.effects import DURABLE_ENTITIES, ENTITIES, check_effects, effects_of
from tests.support.kept import check_nothing_lost, sqlite_in
from tests.support.load import REFUSALS, Call, Dial, Load, add, check_calls, load, warm
from tests.support.pauses import in_ms, moved_keys, pauses
from tests.support.processes import Node
from tests.support.waiting import now
from tests.support.watchers import Watching, watching

KEYS = [f"person-{n}" for n in range(200)]
CALLS_PER_S = 500.0
DEADLINE_S = 5.0
WATCHED = KEYS[::20]
TYPE = "census"


@dataclass
class Scene:
    """A cluster, its load, and the streams that are open."""

    cluster: Cluster
    load: Load
    streams: Watching
    effects: Path
    began: float = field(default_factory=now)
    others: list[Call] = field(default_factory=list[Call])
    _numbers: count[int] = field(default_factory=lambda: count(1_000_000))

    async def handing_off(self, entry: str) -> dict[int, str]:
        """Shards in hand-off, and their next owners, as this seed sees it."""
        async with grpc.aio.insecure_channel(entry) as channel:
            stub = admin_pb2_grpc.AdminStub(channel)
            listed = await stub.ListShards(admin_pb2.ListShardsRequest(type=TYPE), timeout=5)
        return {shard.shard: shard.next_owner for shard in listed.shards if shard.next_owner}

    async def hand_offs(self, many: int, within: float = 5.0) -> dict[int, str]:
        """Wait until exactly so many shards are in hand-off; their next owners."""
        entry = self.cluster.seeds[-1].grpc
        found: dict[int, str] = {}
        try:
            async with asyncio.timeout(within):
                while len(found) != many:
                    found = await self.handing_off(entry)
        except TimeoutError:
            raise AssertionError(f"{len(found)} hand-offs, not {many}") from None
        return found

    async def slow(
        self,
        key: str,
        seconds: float,
        *,
        entry: str,
        timeout: float,
        outside: bool = False,
        block: float = 0.0,
    ) -> Call:
        """One recorded call whose turn (or time outside it) takes so long, and then, when it has
        had its effect, blocks its worker's loop for `block` seconds."""
        number, sent = next(self._numbers), now()
        asked = pb.SlowRequest(
            person=pb.Person(name=key, number=number),
            pause_ms=int(seconds * 1000),
            block_ms=int(block * 1000),
        )
        async with grpc.aio.insecure_channel(entry) as channel:
            stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
            method = stub.Away if outside else stub.Slow
            try:
                reply = await method(asked, timeout=timeout)
                call = Call(
                    *(key, sent, now(), grpc.StatusCode.OK, ""),
                    *(reply.count, reply.epoch, reply.worker),
                    number=number,
                )
            except grpc.aio.AioRpcError as error:
                text = error.details() or ""
                call = Call(key, sent, now(), error.code(), reason(error), text=text, number=number)
        self.others.append(call)
        return call

    async def add(self, key: str, *, entry: str, timeout: float) -> Call:
        """One recorded call of `Add`."""
        async with grpc.aio.insecure_channel(entry) as channel:
            call = await add(rpc.CensusStub(channel), key, timeout, next(self._numbers))
        self.others.append(call)
        return call

    @asynccontextmanager
    async def slow_calls(self, many: int, seconds: float) -> AsyncGenerator[None, None]:
        """So many calls that each take so long are always under way on each worker that there is
        now, each on a shard of its own. When the scope ends it waits for the last of them."""
        entry, status = self.cluster.seeds[-1].grpc, await self.cluster.status()
        ended = asyncio.Event()

        async def one_after_the_other(key: str, first: float) -> None:
            await self.slow(key, first, entry=entry, timeout=first + 15)
            while not ended.is_set():
                await self.slow(key, seconds, entry=entry, timeout=seconds + 15)

        async with asyncio.TaskGroup() as tasks:
            for worker in self.cluster.workers:
                for n, key in enumerate(keys_on(status, worker.name, many), 1):
                    # The first ones differ, so that some have just begun at any time.
                    tasks.create_task(one_after_the_other(key, seconds * n / many))
            yield
            ended.set()

    def report(self, what: str) -> str:
        """What callers saw since `began`, in a line."""
        return (
            f"{what}: {self.load.summary()}; pause {in_ms(self.pauses())};"
            f" streams back {in_ms(self.streams.back_s)}"
        )

    def pauses(self) -> list[float]:
        """For each entity that has moved, its longest wait in seconds since `began`."""
        moved = moved_keys(self.load, 0, now())
        return sorted(pauses(self.load, self.began, now(), moved).values())

    def check(self, but: Container[str] = ()) -> None:
        """No call failed, no effect was lost, doubled or out of order (but of these keys)."""
        assert not self.load.failed, f"{len(self.load.failed)} failed, as {self.load.failed[0]}"
        self.check_effects(but=but)

    def check_effects(self, reasons: Container[str] = REFUSALS, but: Container[str] = ()) -> None:
        """Whatever was answered was right, and answered in time; the others for these reasons."""
        check_calls(self.load, DEADLINE_S, reasons)
        effects = [effect for effect in effects_of(self.effects) if effect.key not in but]
        check_effects([*self.load.calls, *self.others], effects)

    def check_pauses(self, most: float = 1.0) -> None:
        """No entity was away for longer, in seconds. (How long they usually are is a benchmark.)"""
        waits = self.pauses()
        assert waits, "nothing moved"
        assert waits[-1] <= most, f"pauses {in_ms(waits)}"


@asynccontextmanager
async def scene(
    folder: Path,
    *,
    seeds: int = 1,
    workers: int = 3,
    etcd_members: int = 1,
    seed_env: Mapping[str, str] | None = None,
    worker_env: Mapping[str, str] | None = None,
    through: Sequence[int] | None = None,
    in_one: bool = False,
    dial: Dial = grpc.aio.insecure_channel,
    durable: bool = False,
) -> AsyncGenerator[Scene, None]:
    """A cluster with 500 calls a second on 200 keys, and a stream on every twentieth, through these
    seeds (None: all) in turn, or through one channel that knows all of them (`in_one`). When the
    scope ends the load ends, with every call of it.

    `durable`: the entities are kept in a SQLite file, and at the end their values are checked.
    """
    effects = folder / "effects"
    env = {witness.FILE: str(effects), **(worker_env or {})}
    if durable:
        env |= sqlite_in(folder)
    async with cluster(
        folder, seeds=seeds, workers=workers, etcd_members=etcd_members,
        entities=DURABLE_ENTITIES if durable else ENTITIES,
        seed_env=seed_env, worker_env=env,
    ) as running:  # fmt: skip
        await running.placed(workers)
        entries = [running.seeds[n].grpc for n in through or range(seeds)]
        if in_one:
            entries = ["ipv4:" + ",".join(entries)]
        async with (
            watching(entries, WATCHED, dial=dial) as streams,
            load(entries, KEYS, per_s=CALLS_PER_S, timeout=DEADLINE_S, dial=dial) as record,
        ):
            await warm(record, KEYS)
            await streams.opened()
            seen = Scene(running, record, streams, effects)
            yield seen
            await asyncio.sleep(0.5)  # of load after what happened
        if durable:
            await check_nothing_lost(running.seeds[-1].grpc, [*record.calls, *seen.others])


@asynccontextmanager
async def busy(
    folder: Path, *, many: int, seconds: float, env: Mapping[str, str], outside: bool = False
) -> AsyncGenerator[tuple[Scene, list[asyncio.Task[Call]]], None]:
    """A scene of two seeds, of which the second takes the load, and three workers, with so many
    slow calls under way on the first of these, each on a shard of its own."""
    async with (
        scene(folder, seeds=2, through=[1], seed_env=env, worker_env=env) as seen,
        asyncio.TaskGroup() as tasks,
    ):
        running = seen.cluster
        entry, victim = running.seeds[1].grpc, running.workers[0].name
        keys = keys_on(await running.status(), victim, many)
        calls = [
            tasks.create_task(
                seen.slow(key, seconds, entry=entry, timeout=seconds + 15, outside=outside)
            )
            for key in keys
        ]
        await calls_under_way(running.workers[0], many)
        yield seen, calls


async def calls_under_way(worker: Node, many: int, within: float = 5.0) -> None:
    """Wait until so many unary calls wait or run on the worker."""
    seen = 0
    try:
        async with asyncio.timeout(within):
            while (seen := int(await gauge(worker, "seedbed_running_calls"))) < many:
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{seen} calls under way on {worker.name}, not {many}") from None


async def gauge(node: Node, name: str) -> float:
    """A number of the node's metrics, which come from a thread of its own."""
    page = await node.fetch("/metrics")
    return next(float(line.split()[1]) for line in page.splitlines() if line.startswith(name + " "))


def keys_on(status: Status, node: str, many: int) -> list[str]:
    """So many keys, each on a shard of its own that this node owns and no key of the load is on."""
    taken = {shard_of(key.encode(), 1024) for key in KEYS}
    found: list[str] = []
    for key in (f"extra-{n}" for n in range(100_000)):
        shard = shard_of(key.encode(), 1024)
        if shard not in taken and status.shards[TYPE, shard][0] == node:
            taken.add(shard)
            found.append(key)
        if len(found) == many:
            return found
    raise AssertionError(f"{node} does not own {many} free shards")
