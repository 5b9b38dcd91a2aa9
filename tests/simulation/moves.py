"""A planned move in its thinnest form: announce it, wait a TTL, give the shard away.

It is safe just because whoever holds a valid lease knows every table older than the lease.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from seedbed.ids import Epoch, Generation
from seedbed.routing import CHUNK, Handoff, ShardTable
from seedbed_seed.core.draft import Draft
from tests.simulation.calls import TTL_NS
from tests.simulation.kernel import SECOND

if TYPE_CHECKING:  # a seed has its moves
    from tests.simulation.seed import SimSeed


class Moves:
    """Those that one seed has seen announced: it finishes them if it leads by then."""

    def __init__(self, seed: SimSeed) -> None:
        self._seed = seed
        self._seen: dict[tuple[str, int], Epoch] = {}

    def announce(self, type_: str, shard: int) -> None:
        seed = self._seed
        table = seed.tables().get((type_, shard // CHUNK))
        places = sorted(worker.incarnation for worker in seed.hosts(type_))
        if not seed.leading or table is None or not places or shard in table.handoffs:
            return
        if table.owner_of(shard) is not None:
            to = seed.kernel.random.choice(places)
            generation = Generation(table.generation + 1)
            handoffs = {**table.handoffs, shard: Handoff(to, 0)}
            seed.write_table(replace(table, generation=generation, handoffs=handoffs))

    def note(self, tables: Iterable[ShardTable]) -> None:
        for table in tables:
            for shard in table.handoffs:
                epoch = table.epoch[shard % CHUNK]
                if self._seen.get((table.type, shard)) != epoch:
                    self._seen[table.type, shard] = epoch
                    finish = partial(self._finish, table.type, shard)
                    self._seed.kernel.after(TTL_NS, self._seed.process, finish)

    def _finish(self, type_: str, shard: int) -> None:
        seed = self._seed
        tables = seed.tables()
        table = tables.get((type_, shard // CHUNK))
        if table is None or shard not in table.handoffs:
            return
        if seed.leading and not seed.deciding:
            workers = {worker.incarnation: worker for worker in seed.hosts(type_)}
            worker = workers.get(table.handoffs[shard].to) or next(iter(workers.values()), None)
            if worker is not None:
                draft = Draft(tables, {}, {type_: table.generation}, seed.wall_ms())
                draft.give(type_, shard, seed.world.owner(worker, type_))
                seed.write_table(draft.tables()[0])
        seed.kernel.after(SECOND, seed.process, partial(self._finish, type_, shard))
