"""Who owns which shard: the one machine that decides it, fed by every seed, asked on the leader.

Theory. The store is the truth; this is its reading. Every seed feeds its machine from its own watch
(`apply`), so that a new leader starts with a full one, and only the leader's driver asks it what to
write (`decide`). A decision is a `Persist`: whole tables, each with the revision it was decided
from. The driver writes them in one transaction guarded by its leadership, by these revisions, and
by the lost members' records still being gone; so a decision from an old view, or of a deposed
leader, changes nothing. Memory changes only when the tables come back through the watch: persist,
then tell. One Persist is under way at a time, and after it nothing is decided until its tables are
seen, because until then the machine knows less than the store.

Epochs. A table's generation is max(last of the type + 1, wall clock in ms), so it rises also over a
store that was emptied or restored. The epoch of a shard is the generation of the write that gave it
its owner; a shard that is not concerned keeps both.

When a shard moves. Never while its owner's record is there, be it silent or draining. Once it is
gone: at once if the owner declared the type durable (the journal's fence protects it), if it said
goodbye or was replaced with proof, or if `evidence` is "all"; else when its lease can be valid no
more (`Roster`). All that may move moves in one Persist. After a restore from a backup, or a loss of
tables, every table concerned is written again before anything else (`Aftermath`).

From nothing (no shard of the type has a living owner) placement waits for `min_workers`; with one,
until half a second has passed without a join, so that the first one back does not get everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

from seedbed.ids import NO_GENERATION, Epoch, Generation, Incarnation, NodeId
from seedbed.routing import CHUNK, Owner, ShardTable
from seedbed_seed.core.aftermath import LEAP_MS, Aftermath
from seedbed_seed.core.allocation import Candidate
from seedbed_seed.core.decisions import (
    ContractSeen,
    CoordinatorSettings,
    Decision,
    Deposed,
    Elected,
    EpochReported,
    Event,
    OrdersSeen,
    Persist,
    Persisted,
    PersistFailed,
    Synced,
    TableGone,
    TableSeen,
    WorkerGone,
    WorkerSeen,
)
from seedbed_seed.core.draft import Draft, TableKey
from seedbed_seed.core.handoffs import Handoffs, ends_ns
from seedbed_seed.core.membership import Status, Worker
from seedbed_seed.core.orders import Orders
from seedbed_seed.core.roster import Roster

MAX_TABLES = 126
"""Tables of one Persist: etcd takes 128 operations and 128 compares in a transaction."""

MAX_EPOCH = 1 << 62
"""A reported epoch above this is nonsense: following it would use up the numbers there are."""

_MS = 1_000_000
_QUIET_NS = 500 * _MS
"""Without a join for this long, placement from nothing begins ..."""
_QUIET_LIMIT_NS = 5_000 * _MS
"""... or this long after the first one."""
_ECHO_LIMIT_NS = 2_000 * _MS
"""A watch that stands still longer does not stop decisions; the guards then stop wrong ones."""
_RETRY_NS = (100 * _MS, 200 * _MS, 400 * _MS, 800 * _MS, 1_600 * _MS, 3_200 * _MS)
"""Pauses after failed writes, unless something changes before."""


@dataclass(slots=True)
class _Writing:
    """The Persist under way; `revision` is set when it was carried out and is not yet seen."""

    keys: frozenset[TableKey]
    revision: int | None = None
    limit_ns: int = 0


class Coordinator:
    """The allocation of all types."""

    def __init__(self, settings: CoordinatorSettings) -> None:
        self._settings = settings
        self._roster = Roster(settings.ttl_ns)
        self._types: dict[str, ContractSeen] = {}
        self._orders = Orders()
        self._tables: dict[TableKey, ShardTable] = {}
        self._handoffs = Handoffs()
        self._named: Counter[Incarnation] = Counter()
        self._generations: dict[str, Generation] = {}
        self._aftermath = Aftermath(waits=settings.evidence != "all")
        self._restored_until_ns = 0
        self._reported: dict[tuple[str, int], Epoch] = {}
        self._synced = False
        self._leading = False
        self._writing: _Writing | None = None
        self._failures = 0
        self._retry_at_ns: int | None = None

    def apply(self, event: Event, now_ns: int) -> None:
        """Take note of what happened. Of a seed's watch, every event in order."""
        match event:
            case WorkerSeen(worker):
                self._roster.seen(worker, now_ns)
            case WorkerGone(node_id, incarnation):
                self._roster.gone(node_id, incarnation, now_ns)
                self._roster.forget(self._named, now_ns)
            case TableSeen(table):
                self._set_table((table.type, table.chunk), table, now_ns)
            case TableGone(type_, chunk):
                self._set_table((type_, chunk), None, now_ns)
            case ContractSeen():
                self._set_type(event, now_ns)
            case Synced():
                self._sync(event, now_ns)
            case OrdersSeen(orders):
                self._orders = orders
            case EpochReported(type_, shard, epoch):
                self._report(type_, shard, epoch)
            case Elected() | Deposed():
                self._leading = isinstance(event, Elected)
                self._writing = None
                self._failures = 0
                self._reported.clear()
            case Persisted(revision):
                self._failures = 0
                if self._writing is not None:
                    self._writing.revision = revision
                    self._writing.limit_ns = now_ns + _ECHO_LIMIT_NS
            case PersistFailed():
                self._writing = None
                pause_ns = _RETRY_NS[min(self._failures, len(_RETRY_NS) - 1)]
                self._failures += 1
                self._retry_at_ns = now_ns + pause_ns
                return
            case _:
                assert_never(event)
        self._retry_at_ns = None

    def decide(self, now_ns: int, wall_ms: int) -> Decision:
        """What the leader has to write now. The driver must answer every Persist with `Persisted`
        or `PersistFailed`, unless `Deposed` comes first."""
        if not (self._leading and self._synced):
            return Decision()
        if self._writing is not None and not self._has_come_back(self._writing, now_ns):
            answered = self._writing.revision is not None
            return Decision(wake_at_ns=self._writing.limit_ns if answered else None)
        self._writing = None
        if self._retry_at_ns is not None and now_ns < self._retry_at_ns:
            return Decision(wake_at_ns=self._retry_at_ns)
        shard_counts = {name: kind.shard_count for name, kind in self._types.items()}
        draft = Draft(self._tables, shard_counts, self._generations, wall_ms)
        wake_at_ns = None
        for key, renewal in self._aftermath.renewals():
            draft.renew(key, above=max(renewal.floor, wall_ms) + LEAP_MS)
            if renewal.vacated and self._is_writable(key):
                draft.vacate(key, renewal.vacated)
        if draft.untouched:
            for (type_, shard), epoch in self._reported.items():
                draft.renew((type_, shard // CHUNK), [shard], above=epoch)
            wake = [self._rehome(draft, now_ns), self._end_handoffs(draft, now_ns)]
            self._drain(draft)
            wake_at_ns = min((at_ns for at_ns in wake if at_ns is not None), default=None)
        tables = draft.tables()[:MAX_TABLES]
        if not tables:
            return Decision(wake_at_ns=wake_at_ns)
        self._writing = _Writing(frozenset((t.type, t.chunk) for t in tables))
        # Guards that do not fit into a transaction are left out: the store itself has told that
        # these members are gone, and only a restore could bring such a record back.
        return Decision(Persist(tables, self._guards(draft.lost)[: MAX_TABLES + 1 - len(tables)]))

    def movable_at_ns(self, type_: str, shard: int, now_ns: int) -> int | None:
        """When a shard without a reachable owner may be given another (a time past: any moment).

        None: its owner is reachable, or may be proved dead any moment, or nobody could take it.
        """
        key = (type_, shard // CHUNK)
        table = self._tables.get(key)
        owner = table.owner_of(shard) if table is not None else None
        if table is None or (owner is not None and self._roster.reachable(owner.incarnation)):
            return None
        kind = self._types.get(type_)
        if kind is None or not self._candidates(kind):
            return None
        if owner is None:
            return self._aftermath.free_at_ns(key, self._roster.ttl_ns)
        if not self._roster.serves(owner.incarnation):
            return self._free_at_ns(owner)
        awaits_evidence = self._settings.evidence != "off" and self._moves_at_once(owner)
        return None if awaits_evidence else self._roster.ends_ns(owner.incarnation)

    def unreachable(self) -> frozenset[Incarnation]:
        """Owners that are marked silent, or gone."""
        return frozenset(i for i in self._named if not self._roster.reachable(i))

    def without_workers(self) -> frozenset[str]:
        """Types that nobody hosts, or too few for a placement from nothing."""
        return frozenset(
            name
            for name, kind in self._types.items()
            if not self._enough(kind, alive=self._is_alive(kind))
        )

    # What was seen.

    def _sync(self, event: Synced, now_ns: int) -> None:
        self._synced = True
        self._orders = event.orders
        self._roster.reset(event.workers, now_ns, restored=event.restored)
        types = {contract.type: contract for contract in event.contracts}
        tables = {(table.type, table.chunk): table for table in event.tables}
        if event.restored:
            self._writing = None
            self._restored_until_ns = now_ns + self._roster.ttl_ns
            kinds = (self._types | types).values()
            keys = {key for kind in kinds for key in _keys(kind)}
            self._go_back(keys | tables.keys() | self._tables.keys(), tables)
        self._types = types
        for key in self._tables.keys() - tables.keys():
            self._set_table(key, None, now_ns)
        for key, table in tables.items():
            self._set_table(key, table, now_ns)

    def _go_back(self, keys: Iterable[TableKey], tables: Mapping[TableKey, ShardTable]) -> None:
        """The store has been restored, and holds these tables or none under these keys."""
        for key in keys:
            before, now = self._tables.get(key), tables.get(key)
            known = self._generations.get(key[0], NO_GENERATION)
            if now is not None and now.generation > known:
                # No backup holds what this seed has not seen: another one has written it again.
                self._aftermath.renewed(key)
                continue
            table = now or before
            size = len(table.owner) if table is not None else CHUNK
            self._aftermath.lost(key, size, known, before=before, now=now)

    def _set_type(self, kind: ContractSeen, now_ns: int) -> None:
        is_new = kind.type not in self._types and kind.type not in self._generations
        if is_new and now_ns < self._restored_until_ns:
            # It may have had owners in the future that was lost, and this seed did not see it.
            self._go_back(_keys(kind), {})
        self._types[kind.type] = kind

    def _set_table(self, key: TableKey, table: ShardTable | None, now_ns: int) -> None:
        """Replace a table; an owner that it names is expected to have been seen."""
        before = self._tables.pop(key, None)
        old = {owner.incarnation for owner in before.owners} if before else set[Incarnation]()
        new = {owner.incarnation for owner in table.owners} if table else set[Incarnation]()
        self._named.update(new - old)
        self._named.subtract(old - new)
        self._roster.expect(new, now_ns)
        for incarnation in old - new:
            if not self._named[incarnation]:
                del self._named[incarnation]
        self._roster.forget(self._named, now_ns)
        self._aftermath.seen(key, before, table, now_ns)
        self._handoffs.seen(key, table, now_ns)
        if table is None:
            if before is not None:
                known = self._generations[before.type]
                self._aftermath.lost(key, len(before.owner), known, before=before, now=None)
            return
        self._tables[key] = table
        last = self._generations.get(table.type, NO_GENERATION)
        self._generations[table.type] = max(last, table.generation)
        for type_, shard in list(self._reported):
            if (type_, shard // CHUNK) == key:
                self._report(type_, shard, self._reported[type_, shard])

    def _report(self, type_: str, shard: int, epoch: Epoch) -> None:
        """Remember a reported epoch while the shard's table is below it."""
        self._reported.pop((type_, shard), None)
        table = self._tables.get((type_, shard // CHUNK))
        if self._leading and table is not None and 0 <= shard < table.shard_count:
            known = table.epoch[shard % CHUNK]
            if table.owner_of(shard) is not None and known < epoch < MAX_EPOCH:
                self._reported[type_, shard] = epoch

    def _has_come_back(self, writing: _Writing, now_ns: int) -> bool:
        if writing.revision is None:
            return False
        seen = (self._tables.get(key) for key in writing.keys)
        return now_ns >= writing.limit_ns or all(
            table is not None and table.revision >= writing.revision for table in seen
        )

    def _is_writable(self, key: TableKey) -> bool:
        """A table that is there, or of a type that is known."""
        kind = self._types.get(key[0])
        return key in self._tables or (kind is not None and key in _keys(kind))

    # What follows from it.

    def _rehome(self, draft: Draft, now_ns: int) -> int | None:
        """Give every shard that may move to somebody; returns when more may be done."""
        wake: list[int] = []
        for kind in sorted(self._types.values(), key=lambda kind: kind.type):
            shards, later = self._movable(kind, now_ns, draft)
            wake += later
            if not shards:
                continue
            alive = self._is_alive(kind)
            candidates = self._candidates(kind)
            if not candidates or not self._enough(kind, alive=alive):
                continue
            if not alive and self._settings.min_workers <= 1:
                settled_ns = self._settled_ns(kind, candidates)
                if now_ns < settled_ns:
                    wake.append(settled_ns)
                    continue
            self._place(kind, shards, candidates, draft)
        return min(wake, default=None)

    def _movable(
        self, kind: ContractSeen, now_ns: int, draft: Draft
    ) -> tuple[list[int], list[int]]:
        """Shards of a type that may be given an owner now, and the times when others may."""
        shards: list[int] = []
        later: list[int] = []
        for key in _keys(kind):
            table = self._tables.get(key)
            first = key[1] * CHUNK
            if table is None:
                shards += range(first, min(first + CHUNK, kind.shard_count))
                continue
            free: set[int] = set()
            if 0 in table.owner:
                free_at_ns = self._aftermath.free_at_ns(key, self._roster.ttl_ns)
                if free_at_ns > now_ns:
                    later.append(free_at_ns)
                else:
                    free.add(0)
            for index, owner in enumerate(table.owners, 1):
                if self._roster.serves(owner.incarnation):
                    continue
                free_at_ns = self._free_at_ns(owner)
                if free_at_ns > now_ns:
                    later.append(free_at_ns)
                else:
                    free.add(index)
                    draft.lost.add(owner.incarnation)
            if free:
                shards += [first + n for n, index in enumerate(table.owner) if index in free]
        return shards, later

    def _place(
        self,
        kind: ContractSeen,
        shards: list[int],
        candidates: list[Worker],
        draft: Draft,
    ) -> None:
        workers = {worker.node_id: worker for worker in candidates}
        homes = self._choose(kind, shards, candidates, draft)
        owners = {
            node_id: Owner(w.node_id, w.incarnation, w.host, w.port, w.types[kind.type])
            for node_id, w in workers.items()
        }
        for shard, node_id in homes.items():
            draft.give(kind.type, shard, owners[node_id])

    def _end_handoffs(self, draft: Draft, now_ns: int) -> int | None:
        """Give what was handed off to its next owner; returns when more may be done."""
        wake: list[int] = []
        for one in self._handoffs:
            kind = self._types.get(one.type)
            table = self._tables.get((one.type, one.shard // CHUNK))
            if kind is None or table is None or draft.touches(one.type, one.shard):
                continue
            at_ns = ends_ns(one, self._roster)
            if at_ns > now_ns:
                wake.append(at_ns)
                continue
            candidates = self._candidates(kind)
            wanted = [w for w in candidates if w.incarnation == one.to]
            if candidates:
                self._place(kind, [one.shard], wanted or candidates, draft)
            elif (owner := table.owner_of(one.shard)) and self._roster.serves(owner.incarnation):
                draft.give(one.type, one.shard, owner)
        return min(wake, default=None)

    def _drain(self, draft: Draft) -> None:
        for kind in sorted(self._types.values(), key=lambda kind: kind.type):
            leaving = {w.incarnation: w for w in self._roster.workers() if self._is_draining(w)}
            shards = [
                (-leaving[owner].rates.get((kind.type, shard), 0.0), shard)
                for key in _keys(kind)
                if (table := self._tables.get(key)) is not None
                for owner in leaving
                for shard in table.shards_of(owner)
                if shard not in table.handoffs and not draft.touches(kind.type, shard)
            ]
            candidates = self._candidates(kind)
            if not shards or not candidates:
                continue
            workers = {worker.node_id: worker for worker in candidates}
            homes = self._choose(kind, [shard for _, shard in sorted(shards)], candidates, draft)
            for shard, node_id in homes.items():
                to = workers[node_id].incarnation
                draft.hand_off(kind.type, shard, to, self._settings.handoff_timeout_ms)

    def _choose(
        self, kind: ContractSeen, shards: list[int], candidates: list[Worker], draft: Draft
    ) -> Mapping[int, NodeId]:
        loads = draft.loads()
        return self._settings.strategy.place(
            shards,
            [
                Candidate(w.node_id, loads[kind.type, w.incarnation], loads["", w.incarnation])
                for w in sorted(candidates, key=lambda w: w.node_id)
            ],
        )

    def _is_draining(self, worker: Worker) -> bool:
        return worker.status is Status.DRAINING or worker.node_id in self._orders.draining

    def _candidates(self, kind: ContractSeen) -> list[Worker]:
        closed = self._orders.cordoned | self._orders.draining
        return [
            w
            for w in self._roster.workers()
            if w.takes(kind.type, kind.role) and w.node_id not in closed
        ]

    def _is_alive(self, kind: ContractSeen) -> bool:
        """Has any shard of the type an owner that serves?"""
        return any(
            self._roster.serves(owner.incarnation)
            for key in _keys(kind)
            if (table := self._tables.get(key)) is not None
            for owner in table.owners
        )

    def _enough(self, kind: ContractSeen, *, alive: bool) -> bool:
        needed = 1 if alive else max(1, self._settings.min_workers)
        return len(self._candidates(kind)) >= needed

    def _settled_ns(self, kind: ContractSeen, candidates: list[Worker]) -> int:
        """When a placement from nothing may begin, if nobody else joins."""
        up = [self._roster.joined_ns(worker.incarnation) for worker in candidates]
        joins = [
            self._roster.joined_ns(worker.incarnation)
            for worker in self._roster.workers()
            if worker.hosts(kind.type, kind.role)
        ]
        return min(max(joins) + _QUIET_NS, min(up) + _QUIET_LIMIT_NS)

    def _moves_at_once(self, owner: Owner) -> bool:
        return owner.durable or self._settings.evidence == "all"

    def _free_at_ns(self, owner: Owner) -> int:
        """When the shards of an owner that is gone may be another's."""
        return 0 if self._moves_at_once(owner) else self._roster.ends_ns(owner.incarnation) or 0

    def _guards(self, lost: Iterable[Incarnation]) -> tuple[tuple[NodeId, int], ...]:
        records = (self._roster.last_record(incarnation) for incarnation in lost)
        return tuple(sorted(record for record in records if record is not None))


def _keys(kind: ContractSeen) -> list[TableKey]:
    """The keys of a type's tables."""
    return [(kind.type, chunk) for chunk in range(-(-kind.shard_count // CHUNK))]
