"""What this seed knows of the cluster: the one watch, turned into state and into the core's events.

Everything here follows from the store alone, so every seed's view is the same and a new leader
starts with a full one. A record that does not parse is logged and left out; it stops nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from seedbed.clock import Clock
from seedbed.ids import Incarnation, NodeId
from seedbed.routing import Owner, ShardTable, address
from seedbed.v1 import store_pb2
from seedbed_seed.core import coordinator as core
from seedbed_seed.core import decisions
from seedbed_seed.core.orders import Orders
from seedbed_seed.entries import Known, KnownContract, KnownMember, parse_entry
from seedbed_seed.records import Keys, worker_of
from seedbed_seed.store import Changed, Changes, Entry, Removed, Snapshot, Store, WatchUpdate
from seedbed_seed.story import MemberStory

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ViewChange:
    """What one update of the watch changed. With `snapshot` all that is not named is gone."""

    revision: int
    snapshot: bool = False
    restored: bool = False
    tables: tuple[ShardTable, ...] = ()
    contracts: tuple[KnownContract, ...] = ()
    members: bool = False
    orders: bool = False


Listener = Callable[[ViewChange], None]


class ClusterView:
    """Members, tables and contracts at `revision`. One writer: `run`."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        keys: Keys,
        coordinator: core.Coordinator,
        role_of: Callable[[str], str],
        told: Callable[[store_pb2.MemberRecord, str], None] | None = None,
    ) -> None:
        self.keys = keys
        self.revision = 0
        self.synced = False
        self.progress_ns = 0
        """When the watch last said anything, be it that nothing changed."""
        self.workers: dict[str, KnownMember] = {}
        self.seeds: dict[str, KnownMember] = {}
        self.tables: dict[tuple[str, int], ShardTable] = {}
        self.contracts: dict[str, KnownContract] = {}
        self.orders = Orders()
        self._candidates: dict[str, Entry] = {}
        self._store = store
        self._clock = clock
        self._coordinator = coordinator
        self._role_of = role_of
        self._story = MemberStory(told)
        self._listeners: list[Listener] = []
        self._news = asyncio.Event()

    @property
    def coordinator(self) -> core.Coordinator:
        """The core that this view feeds (fed on every seed, asked on the leader)."""
        return self._coordinator

    def listen(self, listener: Listener) -> None:
        """Call `listener` after each update that changed something, in order."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Follow the store until cancelled."""
        async with self._store.watch(self.keys.prefix) as updates:
            async for update in updates:
                self.apply(update)

    async def reached(self, revision: int) -> None:
        """Wait until the watch has delivered this revision; the caller bounds the wait."""
        while not self.synced or self.revision < revision:
            await self._news.wait()

    async def changed(self) -> None:
        """Wait for the next update; the caller bounds the wait."""
        await self._news.wait()

    def seed_addresses(self) -> tuple[str, ...]:
        """Advertised addresses of the seeds that are up."""
        return tuple(
            address(m.record.member.host, m.record.member.port)
            for _, m in sorted(self.seeds.items())
            if m.record.member.status == store_pb2.MEMBER_STATUS_UP
        )

    def owners(self) -> set[Owner]:
        """All that any table names."""
        return {owner for table in self.tables.values() for owner in table.owners}

    def leader(self) -> str:
        """Node id of the seed that leads; empty while none does."""
        first = min(self._candidates.values(), key=lambda e: e.create_revision, default=None)
        return first.value.decode(errors="replace") if first is not None else ""

    def leader_address(self) -> str:
        """Advertised address of the seed that leads; empty while none is known."""
        known = self.seeds.get(self.leader())
        return address(known.record.member.host, known.record.member.port) if known else ""

    def apply(self, update: WatchUpdate) -> None:
        """Take over one update: state first, then the core, then the listeners."""
        self.progress_ns = self._clock.now_ns()
        change = self._replace(update) if isinstance(update, Snapshot) else self._advance(update)
        self.revision = update.revision
        self.synced = True
        if change is not None:
            for listener in self._listeners:
                listener(change)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _replace(self, snapshot: Snapshot) -> ViewChange:
        if snapshot.restored:
            log.warning("store restored", extra={"revision": snapshot.revision})
        before = self._by_incarnation()
        self.workers, self.seeds, self.tables, self.contracts = {}, {}, {}, {}
        self._candidates, self.orders = {}, Orders()
        for entry in snapshot.entries:
            self._take(entry)
        after = self._by_incarnation()
        for incarnation in before.keys() - after.keys():
            self._story.gone(before[incarnation].record)
        for known in after.values():
            self._story.seen(known.record)
        self._feed(
            decisions.Synced(
                workers=tuple(worker_of(m.record, m.entry) for m in self.workers.values()),
                tables=tuple(self.tables.values()),
                contracts=tuple(self._contract_seen(c) for c in self.contracts.values()),
                orders=self.orders,
                restored=snapshot.restored,
            )
        )
        return ViewChange(
            snapshot.revision,
            snapshot=True,
            restored=snapshot.restored,
            tables=tuple(self.tables.values()),
            contracts=tuple(self.contracts.values()),
            members=True,
            orders=True,
        )

    def _advance(self, update: Changes) -> ViewChange | None:
        if not update.changes:
            return None
        tables: dict[tuple[str, int], ShardTable] = {}
        contracts: dict[str, KnownContract] = {}
        members = forgotten = orders = False
        for change in update.changes:
            match change:
                case Changed(entry):
                    taken = self._take(entry)
                    match taken:
                        case ShardTable():
                            tables[taken.type, taken.chunk] = taken
                            self._feed(decisions.TableSeen(taken))
                        case KnownContract():
                            contracts[taken.contract.type] = taken
                            self._feed(self._contract_seen(taken))
                        case KnownMember():
                            members = True
                            self._story.seen(taken.record)
                            if taken.record.member.role == store_pb2.ROLE_WORKER:
                                self._feed(
                                    decisions.WorkerSeen(worker_of(taken.record, taken.entry))
                                )
                        case Orders():
                            orders = True
                            self._feed(decisions.OrdersSeen(taken))
                        case Entry():
                            members = True
                        case None:
                            pass
                case Removed(key):
                    gone = self._drop(key)
                    members = members or gone is KnownMember
                    forgotten = forgotten or gone is ShardTable
                    orders = orders or gone is Orders
        return ViewChange(
            update.revision,
            snapshot=forgotten,
            tables=tuple(self.tables.values() if forgotten else tables.values()),
            contracts=tuple(self.contracts.values() if forgotten else contracts.values()),
            members=members,
            orders=orders,
        )

    def _by_incarnation(self) -> dict[str, KnownMember]:
        members = [*self.workers.values(), *self.seeds.values()]
        return {known.record.member.incarnation: known for known in members}

    def _take(self, entry: Entry) -> Known | Entry | None:
        """Put what an entry says into its place; None for one of no interest, or a broken one."""
        keys = self.keys
        if entry.key.startswith(keys.election):
            self._candidates[entry.key] = entry
            return entry
        known = parse_entry(keys, entry)
        match known:
            case ShardTable():
                self.tables[known.type, known.chunk] = known
            case KnownContract():
                self.contracts[known.contract.type] = known
            case Orders():
                self.orders = known
            case KnownMember() if entry.key.startswith(keys.workers):
                self.workers[entry.key.removeprefix(keys.workers)] = known
            case KnownMember():
                self.seeds[entry.key.removeprefix(keys.seeds)] = known
            case None:
                pass
        return known

    def _drop(self, key: str) -> type[ShardTable] | type[KnownMember] | type[Orders] | None:
        keys = self.keys
        if key.startswith(keys.workers):
            member = self.workers.pop(key.removeprefix(keys.workers), None)
            if member is not None:
                described = member.record.member
                self._story.gone(member.record)
                self._feed(
                    decisions.WorkerGone(
                        NodeId(described.node_id), Incarnation(described.incarnation)
                    )
                )
            return KnownMember
        if self._candidates.pop(key, None) is not None:
            return KnownMember
        if key.startswith(keys.seeds):
            member = self.seeds.pop(key.removeprefix(keys.seeds), None)
            if member is not None:
                self._story.gone(member.record)
            return KnownMember
        if key.startswith(keys.tables):
            type_, _, chunk = key.removeprefix(keys.tables).rpartition("/")
            if chunk.isdecimal() and self.tables.pop((type_, int(chunk)), None) is not None:
                self._feed(decisions.TableGone(type_, int(chunk)))
                return ShardTable
        if key == keys.orders:
            self.orders = Orders()
            self._feed(decisions.OrdersSeen(self.orders))
            return Orders
        if key.startswith(keys.contracts):
            self.contracts.pop(key.removeprefix(keys.contracts), None)
        return None

    def _contract_seen(self, known: KnownContract) -> decisions.ContractSeen:
        contract = known.contract
        return decisions.ContractSeen(
            contract.type, contract.shard_count, self._role_of(contract.type)
        )

    def _feed(self, event: decisions.Event) -> None:
        self._coordinator.apply(event, self._clock.now_ns())


def shards_by_owner(tables: Iterable[ShardTable]) -> dict[str, int]:
    """How many shards each incarnation owns."""
    counts: dict[str, int] = {}
    for table in tables:
        owners: Sequence[str] = [owner.incarnation for owner in table.owners]
        for index in table.owner:
            if index:
                counts[owners[index - 1]] = counts.get(owners[index - 1], 0) + 1
    return counts
