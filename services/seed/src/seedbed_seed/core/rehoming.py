"""Shards whose owner serves no more, or that have none: when they may be another's, and whose.

Theory. Never while the owner's record is there, be it silent or draining. Once it is gone: at once
if the owner declared the type durable (the journal's fence protects it), if it said goodbye or was
replaced with proof, or if `evidence` is "all"; else when its lease can be valid no more (`Roster`).
All that may move moves in one Persist. A shard without an owner in a table that is there waits for
what a restore left behind (`Aftermath`). One that was on its way goes where it was to go, if that
worker may be given it.

Placement is from nothing at first, and after nobody of the type was left: no shard has an owner
that serves, and none that may be given them was up before the last owner was gone. It waits for
`min_workers`; with one, until half a second has passed without a join, so that the first one back
does not get everything. Who was up before takes over alone: the type was never without a worker.
"""

from __future__ import annotations

from collections.abc import Sequence

from seedbed.routing import CHUNK, Owner
from seedbed_seed.core.candidates import Candidates, owner_of
from seedbed_seed.core.decisions import ContractSeen
from seedbed_seed.core.draft import Draft
from seedbed_seed.core.handoffs import ends_ns
from seedbed_seed.core.membership import Worker
from seedbed_seed.core.reading import Reading, keys

_MS = 1_000_000
_QUIET_NS = 500 * _MS
"""Without a join for this long, placement from nothing begins ..."""
_QUIET_LIMIT_NS = 5_000 * _MS
"""... or this long after the first one."""


def rehome(reading: Reading, candidates: Candidates, draft: Draft, now_ns: int) -> int | None:
    """Give every shard that may move to somebody; returns when more may be done."""
    wake: list[int] = []
    for kind in reading.kinds():
        shards, later = _movable(reading, kind, draft, now_ns)
        wake += later
        if not shards:
            continue
        if not enough(reading, candidates, kind):
            continue
        if reading.settings.min_workers <= 1 and _is_from_nothing(reading, candidates, kind):
            settled_ns = _settled_ns(reading, candidates, kind)
            if now_ns < settled_ns:
                wake.append(settled_ns)
                continue
        _place(reading, candidates, kind, shards, draft)
    return min(wake, default=None)


def enough(reading: Reading, candidates: Candidates, kind: ContractSeen) -> bool:
    """Are there workers enough for the type's shards to be given to?"""
    able = len(candidates.able(kind))
    return able >= max(1, reading.settings.min_workers) or (
        able > 0 and not _is_from_nothing(reading, candidates, kind)
    )


def movable_at_ns(reading: Reading, candidates: Candidates, type_: str, shard: int) -> int | None:
    """When a shard without a reachable owner may be given another (a time past: any moment).

    None: its owner is reachable, or may be proved dead any moment, or nobody could take it.
    """
    key = (type_, shard // CHUNK)
    table = reading.tables.get(key)
    owner = reading.owner(type_, shard)
    if table is None or (owner is not None and reading.roster.reachable(owner.incarnation)):
        return None
    kind = reading.types.get(type_)
    if kind is None or not candidates.able(kind):
        return None
    if owner is None:
        return reading.aftermath.free_at_ns(key, reading.roster.ttl_ns)
    handoff = reading.handoffs.get(type_, shard)
    handed_ns = ends_ns(handoff, reading.roster) if handoff is not None else None
    if not reading.roster.serves(owner.incarnation):
        free_at_ns = _free_at_ns(reading, owner)
        return free_at_ns if handed_ns is None else min(free_at_ns, handed_ns)
    if handed_ns is not None:
        return handed_ns
    awaits_evidence = reading.settings.evidence != "off" and _moves_at_once(reading, owner)
    return None if awaits_evidence else reading.roster.ends_ns(owner.incarnation)


def _movable(
    reading: Reading, kind: ContractSeen, draft: Draft, now_ns: int
) -> tuple[list[int], list[int]]:
    """Shards of a type that may be given an owner now, and the times when others may."""
    shards: list[int] = []
    later: list[int] = []
    for key in keys(kind):
        table = reading.tables.get(key)
        first = key[1] * CHUNK
        if table is None:
            shards += range(first, min(first + CHUNK, kind.shard_count))
            continue
        free: set[int] = set()
        if 0 in table.owner:
            free_at_ns = reading.aftermath.free_at_ns(key, reading.roster.ttl_ns)
            if free_at_ns > now_ns:
                later.append(free_at_ns)
            else:
                free.add(0)
        for index, owner in enumerate(table.owners, 1):
            if reading.roster.serves(owner.incarnation):
                continue
            free_at_ns = _free_at_ns(reading, owner)
            if free_at_ns > now_ns:
                later.append(free_at_ns)
            else:
                free.add(index)
                draft.lost.add(owner.incarnation)
        if free:
            shards += [first + n for n, index in enumerate(table.owner) if index in free]
    return shards, later


def _place(
    reading: Reading,
    candidates: Candidates,
    kind: ContractSeen,
    shards: Sequence[int],
    draft: Draft,
) -> None:
    able = {worker.incarnation: worker for worker in candidates.able(kind)}
    elsewhere: list[int] = []
    for shard in shards:
        handoff = reading.handoffs.get(kind.type, shard)
        to = able.get(handoff.to) if handoff is not None else None
        if to is None:
            elsewhere.append(shard)
        else:
            draft.give(kind.type, shard, owner_of(to, kind))
    homes = candidates.homes(kind, elsewhere, candidates.best(kind), draft)
    for shard, worker in homes.items():
        draft.give(kind.type, shard, owner_of(worker, kind))


def _is_from_nothing(reading: Reading, candidates: Candidates, kind: ContractSeen) -> bool:
    """Are the type's shards nobody's, and was nobody up who could have taken them over?"""
    if reading.is_alive(kind):
        return False
    gone_ns = max(
        (
            reading.roster.gone_ns(owner.incarnation)
            for table in reading.tables_of(kind)
            for owner in table.owners
        ),
        default=0,
    )
    return all(_joined_ns(reading, worker) >= gone_ns for worker in candidates.able(kind))


def _settled_ns(reading: Reading, candidates: Candidates, kind: ContractSeen) -> int:
    """When a placement from nothing may begin, if nobody else joins."""
    up = [_joined_ns(reading, worker) for worker in candidates.able(kind)]
    joins = [_joined_ns(reading, worker) for worker in candidates.hosts(kind)]
    return min(max(joins) + _QUIET_NS, min(up) + _QUIET_LIMIT_NS)


def _joined_ns(reading: Reading, worker: Worker) -> int:
    return reading.roster.joined_ns(worker.incarnation)


def _moves_at_once(reading: Reading, owner: Owner) -> bool:
    return owner.durable or reading.settings.evidence == "all"


def _free_at_ns(reading: Reading, owner: Owner) -> int:
    """When the shards of an owner that is gone may be another's."""
    if _moves_at_once(reading, owner):
        return 0
    return reading.roster.ends_ns(owner.incarnation) or 0
