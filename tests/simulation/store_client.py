"""A seed's way to the store: each request, and each answer, is late or lost by its own luck."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from seedbed.ids import Incarnation, NodeId
from seedbed.routing import ShardTable
from seedbed_seed.core.membership import Worker
from tests.simulation.kernel import MS, SECOND
from tests.simulation.keys import MEMBERS, worker_of
from tests.simulation.store import Entry, Guard, Value

if TYPE_CHECKING:  # a seed has its client
    from tests.simulation.seed import SimSeed

T = TypeVar("T")

ATTEMPTS = 5
"""Writes of one change of a record, when others change it at the same time."""


@dataclass(frozen=True, slots=True)
class Change:
    """What to make of a record of this incarnation (None: leave it), while it names the stream."""

    node_id: NodeId
    incarnation: Incarnation
    change: Callable[[Worker], Worker | None]
    stream_id: str | None = None


class StoreClient:
    """Of one life of a seed."""

    def __init__(self, seed: SimSeed) -> None:
        self._seed = seed
        self._kernel = seed.kernel
        self._store = seed.store

    def ask(self, run: Callable[[], T], then: Callable[[T | None], None]) -> None:
        """Carry out `run` at the store and give its result, or None: lost, or not in a second.

        A request without an answer may still be carried out, and later; not by another store.
        """
        kernel, seed = self._kernel, self._seed
        answered: list[bool] = []
        life = self._store.life

        def finish(result: T | None) -> None:
            if not answered:
                answered.append(True)
                then(result)

        def execute() -> None:
            if held_ns := kernel.held_ns(seed.name, "store"):
                if kernel.random.random() < 0.5:
                    kernel.after(held_ns, None, execute)
                return
            if life != self._store.life:
                return
            result = run()
            back_ns = kernel.between(MS, 10 * MS) + kernel.held_ns("store", seed.name)
            kernel.after(back_ns, seed.process, lambda: finish(result))

        kernel.after(kernel.between(MS, 10 * MS), None, execute)
        kernel.after(SECOND, seed.process, lambda: finish(None))

    def write(
        self,
        puts: Mapping[str, tuple[Value, int]],
        guards: Sequence[Guard],
        then: Callable[[int | None], None],
        deletes: Sequence[str] = (),
    ) -> None:
        """Give the revision of the write, 0 if a guard did not hold, or None."""

        def run() -> int:
            # Guards may hold again in a backup: assumed is that who writes a table has noticed.
            if self._seed.store_life != self._store.life and _has_table(puts):
                return 0
            return self._store.write(puts, guards, deletes)

        self.ask(run, then)

    def rewrite(
        self,
        change: Change,
        then: Callable[[int | None], None] = lambda _: None,
        attempts: int = ATTEMPTS,
    ) -> None:
        """Change a record; gives the write's revision, 0 if there is nothing to change, or None."""
        key = MEMBERS + change.node_id

        def written(revision: int | None) -> None:
            if revision == 0 and attempts > 1:
                self.rewrite(change, then, attempts - 1)
            else:
                then(revision or None)

        def read(entries: list[Entry] | None) -> None:
            if entries is None:
                then(None)
                return
            entry = next(iter(entries), None)
            worker = worker_of(entry) if entry is not None else None
            named = worker is not None and worker.incarnation == change.incarnation
            if worker is not None and change.stream_id not in (None, worker.stream_id):
                named = False
            changed = change.change(worker) if worker is not None and named else None
            if changed is None or entry is None:
                then(0)
                return
            guards = [Guard(key, modified=entry.mod_revision)]
            self.write({key: (changed, entry.lease)}, guards, written)

        self.ask(lambda: self._store.under(key), read)


def _has_table(puts: Mapping[str, tuple[Value, int]]) -> bool:
    return any(isinstance(value, ShardTable) for value, _ in puts.values())
