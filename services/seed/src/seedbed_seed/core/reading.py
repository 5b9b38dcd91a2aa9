"""What this seed has read of the store: types, tables, workers, orders, and when it read them.

Theory. The store is the truth, and this its reading by one seed's watch. Every seed keeps one, fed
by the same events, so that a new leader starts with a full one. All times in it are this seed's
own: when it saw something, which is later than when that was written, so whoever waits from then
waits long enough. It changes by what was seen and by nothing else: persist, then tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import assert_never

from seedbed.ids import NO_GENERATION, Generation, Incarnation
from seedbed.routing import CHUNK, Owner, ShardTable
from seedbed_seed.core.aftermath import Aftermath
from seedbed_seed.core.cooling import Cooling
from seedbed_seed.core.decisions import (
    ContractSeen,
    CoordinatorSettings,
    OrdersSeen,
    Seen,
    Synced,
    TableGone,
    TableSeen,
    WorkerGone,
    WorkerSeen,
)
from seedbed_seed.core.draft import TableKey
from seedbed_seed.core.handoffs import Handoffs
from seedbed_seed.core.membership import Worker
from seedbed_seed.core.orders import Orders
from seedbed_seed.core.roster import Roster
from seedbed_seed.core.versions import Versions


class Reading:
    """Everything that decisions are made of. Others only look at it."""

    def __init__(self, settings: CoordinatorSettings) -> None:
        self.settings = settings
        self.synced = False
        self.types: dict[str, ContractSeen] = {}
        self.tables: dict[TableKey, ShardTable] = {}
        self.generations: dict[str, Generation] = {}
        self.named: Counter[Incarnation] = Counter()
        """In how many tables an owner is named."""
        self.orders = Orders()
        self.roster = Roster(settings.ttl_ns)
        self.versions = Versions()
        self.handoffs = Handoffs()
        self.cooling = Cooling(settings.rebalance.cooling_ns)
        self.aftermath = Aftermath(waits=settings.evidence != "all")
        self._restored_until_ns = 0

    def apply(self, event: Seen, now_ns: int) -> None:
        """Take note of what the watch has delivered; every event, in order."""
        match event:
            case WorkerSeen(worker):
                self.roster.seen(worker, now_ns)
                self.versions.seen(worker, now_ns)
            case WorkerGone(node_id, incarnation):
                self.roster.gone(node_id, incarnation, now_ns)
                self.roster.forget(self.named, now_ns)
                self.versions.forget(self.roster.workers())
            case TableSeen(table):
                self._set_table((table.type, table.chunk), table, now_ns)
            case TableGone(type_, chunk):
                self._set_table((type_, chunk), None, now_ns)
            case ContractSeen():
                self._set_type(event, now_ns)
            case OrdersSeen(orders):
                self._set_orders(orders, now_ns)
            case Synced():
                self._sync(event, now_ns)
            case _:
                assert_never(event)

    def kinds(self) -> list[ContractSeen]:
        """The types, in order."""
        return [self.types[name] for name in sorted(self.types)]

    def tables_of(self, kind: ContractSeen) -> Iterable[ShardTable]:
        """Those that there are."""
        return (self.tables[key] for key in keys(kind) if key in self.tables)

    def owner(self, type_: str, shard: int) -> Owner | None:
        """Who owns a shard; None too if there is no such shard."""
        table = self.tables.get((type_, shard // CHUNK))
        if table is None or not 0 <= shard - table.first_shard < len(table.owner):
            return None
        return table.owner_of(shard)

    def is_alive(self, kind: ContractSeen) -> bool:
        """Has any shard of the type an owner that serves?"""
        return any(
            self.roster.serves(owner.incarnation)
            for table in self.tables_of(kind)
            for owner in table.owners
        )

    def is_draining(self, worker: Worker) -> bool:
        """Is it to lose what it has, by its own wish or by an order?"""
        return worker.draining or worker.node_id in self.orders.draining

    def draining(self) -> list[Worker]:
        """The workers that are to lose what they have, in order."""
        leaving = (worker for worker in self.roster.workers() if self.is_draining(worker))
        return sorted(leaving, key=lambda worker: worker.node_id)

    def is_writable(self, key: TableKey) -> bool:
        """Is this a table that is there, or one of a type that is known?"""
        kind = self.types.get(key[0])
        return key in self.tables or (kind is not None and key in keys(kind))

    def _sync(self, event: Synced, now_ns: int) -> None:
        self.roster.reset(event.workers, now_ns, restored=event.restored)
        for worker in event.workers:
            self.versions.seen(worker, now_ns)
        self.versions.forget(self.roster.workers())
        self._set_orders(event.orders, now_ns)
        types = {contract.type: contract for contract in event.contracts}
        tables = {(table.type, table.chunk): table for table in event.tables}
        if event.restored:
            self._restored_until_ns = now_ns + self.roster.ttl_ns
            self.handoffs.forget()
            known = {key for kind in (self.types | types).values() for key in keys(kind)}
            self._go_back(known | tables.keys() | self.tables.keys(), tables)
        if not self.synced:
            self.cooling.inherit(tables.values())
        self.synced = True
        self.types = types
        for key in self.tables.keys() - tables.keys():
            self._set_table(key, None, now_ns)
        for key, table in tables.items():
            self._set_table(key, table, now_ns)

    def _set_orders(self, orders: Orders, now_ns: int) -> None:
        told = orders.draining - self.orders.draining
        for worker in self.roster.workers():
            if worker.node_id in told:
                self.versions.told(worker, now_ns)
        self.orders = orders

    def _go_back(self, among: Iterable[TableKey], tables: Mapping[TableKey, ShardTable]) -> None:
        """The store has been restored, and holds these tables or none under these keys."""
        for key in among:
            before, now = self.tables.get(key), tables.get(key)
            known = self.generations.get(key[0], NO_GENERATION)
            if now is not None and now.generation > known:
                # No backup holds what this seed has not seen: another one has written it again.
                self.aftermath.renewed(key)
                continue
            table = now or before
            size = len(table.owner) if table is not None else CHUNK
            self.aftermath.lost(key, size, known, before=before, now=now)

    def _set_type(self, kind: ContractSeen, now_ns: int) -> None:
        is_new = kind.type not in self.types and kind.type not in self.generations
        if is_new and now_ns < self._restored_until_ns:
            # It may have had owners in the future that was lost, and this seed did not see it.
            self._go_back(keys(kind), {})
        self.types[kind.type] = kind

    def _set_table(self, key: TableKey, table: ShardTable | None, now_ns: int) -> None:
        """Replace a table; an owner that it names is expected to have been seen."""
        before = self.tables.pop(key, None)
        old = {owner.incarnation for owner in before.owners} if before else set[Incarnation]()
        new = {owner.incarnation for owner in table.owners} if table else set[Incarnation]()
        self.named.update(new - old)
        self.named.subtract(old - new)
        self.roster.expect(new, now_ns)
        for incarnation in old - new:
            if not self.named[incarnation]:
                del self.named[incarnation]
        self.roster.forget(self.named, now_ns)
        self.aftermath.seen(key, before, table, now_ns)
        self.handoffs.seen(key, table, now_ns)
        self.cooling.seen(before, table, now_ns)
        if table is None:
            if before is not None:
                known = self.generations[before.type]
                self.aftermath.lost(key, len(before.owner), known, before=before, now=None)
            return
        self.tables[key] = table
        last = self.generations.get(table.type, NO_GENERATION)
        self.generations[table.type] = max(last, table.generation)


def keys(kind: ContractSeen) -> list[TableKey]:
    """The keys of a type's tables."""
    return [(kind.type, chunk) for chunk in range(-(-kind.shard_count // CHUNK))]
