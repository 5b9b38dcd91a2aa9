"""Workers that report, and the record that they report into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from seedbed.ids import Epoch
from seedbed.routing import Release
from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_seed.records import worker_of
from seedbed_seed.store import Compare, Get, Outcome, Reading, Write
from tests.unit.seed.declared import hello
from tests.unit.seed.desk import Desk
from tests.unit.seed.scripted import ScriptedWorker, TroubledStore


def list_of(shards: Iterable[int], epoch: int = 5, type_: str = "cup") -> store_pb2.ReleasedShards:
    every = list(shards)
    return store_pb2.ReleasedShards(type=type_, shards=every, epochs=[epoch] * len(every))


def released(*lists: store_pb2.ReleasedShards) -> pb.WorkerMessage:
    return pb.WorkerMessage(released=pb.Released(released=lists))


def releases(seed: Desk) -> frozenset[Release]:
    known = seed.view.workers.get("w1")
    return worker_of(known.record, known.entry).released if known is not None else frozenset()


async def until_released(seed: Desk, *shards: int) -> None:
    wanted = {Release("cup", shard, Epoch(5)) for shard in shards}
    await seed.until(f"{shards} are released", lambda: set(releases(seed)) == wanted)


async def up(seed: Desk, greeting: pb.Hello | None = None) -> tuple[ScriptedWorker, pb.Welcome]:
    """A worker that is UP, as this seed's view has it."""
    worker, welcome = await seed.join(greeting or hello())
    assert (await worker.ack()).state == pb.LEASE_STATE_RENEWED
    await seed.until_status("w1", store_pb2.MEMBER_STATUS_UP)
    return worker, welcome


class Counted:
    """Counts what is asked of a store, from now on."""

    def __init__(self, store: TroubledStore) -> None:
        self.reads = 0
        self.writes = 0
        read, write = store.read, store.write

        async def reading(*gets: Get, timeout: float | None = None) -> Reading:
            self.reads += 1
            return await read(*gets, timeout=timeout)

        async def writing(
            *writes: Write,
            when: Sequence[Compare] = (),
            otherwise: Sequence[Get] = (),
            timeout: float | None = None,
        ) -> Outcome:
            self.writes += 1
            return await write(*writes, when=when, otherwise=otherwise, timeout=timeout)

        store.read = reading  # type: ignore[method-assign]
        store.write = writing  # type: ignore[method-assign]
