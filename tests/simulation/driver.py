"""A seed's driver of its coordinator: what it decides is written, and it is woken when it asks.

It also checks each decision against what the seed knows at that moment: nothing is given to who is
to be given nothing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from seedbed.routing import ShardTable
from seedbed_seed.core import decisions
from seedbed_seed.core.membership import Status
from tests.simulation.kernel import SECOND, Violation
from tests.simulation.keys import MEMBERS, table_key
from tests.simulation.store import Guard

if TYPE_CHECKING:  # a seed has its driver
    from tests.simulation.seed import SimSeed


class Driver:
    """Of one life of a seed."""

    def __init__(self, seed: SimSeed) -> None:
        self._seed = seed
        self._kernel = seed.kernel
        self._deciding = False
        self._term = 0
        self._wake_at_ns: int | None = None
        self._persists: list[int] = []

    def decide(self) -> None:
        """Ask the coordinator, and do what it says."""
        seed, now_ns = self._seed, self._kernel.now_ns
        decision = seed.coordinator.decide(now_ns, seed.wall_ms())
        if decision.persist is not None:
            if self._deciding:
                raise Violation(f"{seed.name}: a second Persist while one is under way")
            self._deciding = True
            self._count_persist()
            self._check_gifts(decision.persist)
            self._persist(decision.persist)
        elif decision.wake_at_ns is not None:
            if decision.wake_at_ns <= now_ns:
                raise Violation(f"{seed.name}: the coordinator never sleeps")
            if self._wake_at_ns is None or decision.wake_at_ns < self._wake_at_ns:
                self._wake_at_ns = decision.wake_at_ns
                wake = partial(self._woken, decision.wake_at_ns)
                self._kernel.after(decision.wake_at_ns - now_ns, seed.process, wake)

    def forget(self) -> None:
        """The answer to a Persist under way means nothing any more."""
        self._term += 1
        self._deciding = False

    def _woken(self, at_ns: int) -> None:
        if self._wake_at_ns == at_ns:
            self._wake_at_ns = None
            self.decide()

    def _persist(self, persist: decisions.Persist) -> None:
        seed, term = self._seed, self._term
        guards = [
            seed.leadership(),
            *(Guard(table_key(t.type, t.chunk), modified=t.revision) for t in persist.tables),
            *(Guard(MEMBERS + node, create=at, equal=False) for node, at in persist.gone),
        ]
        generations = {table.generation for table in persist.tables}
        self._kernel.log(f"{seed.name}: persists generations {sorted(generations)}")

        def written(revision: int | None) -> None:
            if term != self._term:
                return
            self._deciding = False
            seed.apply(decisions.Persisted(revision) if revision else decisions.PersistFailed())
            self.decide()

        puts = {table_key(t.type, t.chunk): (t, 0) for t in persist.tables}
        seed.client.write(puts, guards, written)

    def _count_persist(self) -> None:
        now_ns = self._kernel.now_ns
        self._persists = [at for at in self._persists if at > now_ns - SECOND] + [now_ns]
        if len(self._persists) > 40:
            raise Violation(f"{self._seed.name}: a hot loop of writes")

    def _check_gifts(self, persist: decisions.Persist) -> None:
        """Only who is UP, and neither cordoned nor draining, is given a shard of another's."""
        seed = self._seed
        orders = seed.orders()
        closed = orders.cordoned | orders.draining
        able = {
            worker.incarnation
            for worker in seed.workers()
            if worker.status is Status.UP and worker.node_id not in closed
        }
        known = seed.tables()
        for table in persist.tables:
            before = known.get((table.type, table.chunk))
            for shard, to in _given(before, table):
                if to not in able:
                    raise Violation(f"{table.type}/{shard} given to {to}, who is to get nothing")


def _given(before: ShardTable | None, table: ShardTable) -> list[tuple[int, str]]:
    """Shards of the table that get a new owner, or a next one, and whom."""
    given: list[tuple[int, str]] = []
    for shard in range(table.first_shard, table.first_shard + len(table.owner)):
        owner, old = table.owner_of(shard), before.owner_of(shard) if before is not None else None
        if owner is not None and owner != old:
            given.append((shard, owner.incarnation))
        handoff = table.handoffs.get(shard)
        if handoff is not None and (before is None or shard not in before.handoffs):
            given.append((shard, handoff.to))
    return given
