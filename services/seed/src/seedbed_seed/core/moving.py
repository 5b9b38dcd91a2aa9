"""Hand-offs that end, and those that begin because somebody leaves or an operator says so.

Theory. A shard that is served moves by a hand-off only. It begins if a worker is there that may be
given the shard, and the shard is in none yet. What asks for it:

    a drain   everything that a draining worker owns, at once, so that no shard waits for another;
              the busiest are dealt out first, so that they come to lie on different workers;
    a pin     a shard that is elsewhere than on the node that it is pinned to, whatever its age;
    a move    ordered once, and begun once (`OrderedMoves`).
"""

from __future__ import annotations

from seedbed.ids import NodeId
from seedbed.routing import CHUNK
from seedbed_seed.core.candidates import Candidates, owner_of
from seedbed_seed.core.draft import Draft
from seedbed_seed.core.handoffs import Underway, ends_ns
from seedbed_seed.core.membership import Worker
from seedbed_seed.core.reading import Reading


def end_handoffs(reading: Reading, candidates: Candidates, draft: Draft, now_ns: int) -> int | None:
    """Give whatever has been handed off to its next owner; returns when more may be."""
    wake: list[int] = []
    for one in reading.handoffs:
        if draft.touches(one.type, one.shard):
            continue
        at_ns = ends_ns(one, reading.roster)
        if at_ns > now_ns:
            wake.append(at_ns)
        else:
            _end(one, reading, candidates, draft)
    return min(wake, default=None)


def begin_drains(reading: Reading, candidates: Candidates, draft: Draft) -> None:
    """Hand off everything that draining workers own."""
    leaving = reading.draining()
    if not leaving:
        return
    for kind in reading.kinds():
        if not (among := candidates.next_owners(kind)):
            continue
        rated = [
            (-worker.rates.get((kind.type, shard), 0.0), shard)
            for worker in leaving
            for shard in _owned(reading, kind.type, worker)
            if not draft.touches(kind.type, shard)
        ]
        homes = candidates.homes(kind, [shard for _, shard in sorted(rated)], among, draft)
        for shard, worker in homes.items():
            _begin(reading, draft, kind.type, shard, worker)


def begin_pins(reading: Reading, candidates: Candidates, draft: Draft) -> None:
    """Hand off shards that are pinned to another node than their owner's."""
    for (type_, shard), node_id in sorted(reading.orders.pins.items()):
        kind = reading.types.get(type_)
        owner = reading.owner(type_, shard)
        if kind is None or owner is None or owner.node_id == node_id:
            continue
        worker = candidates.next_owner_on(kind, node_id)
        if worker is not None and _may_begin(reading, draft, type_, shard):
            _begin(reading, draft, type_, shard, worker)


def begin_move(
    reading: Reading, candidates: Candidates, draft: Draft, type_: str, shard: int, to: NodeId
) -> bool:
    """Hand off one shard, if it can be."""
    kind = reading.types.get(type_)
    worker = candidates.next_owner_on(kind, to) if kind is not None else None
    owner = reading.owner(type_, shard)
    if worker is None or owner is None or owner.incarnation == worker.incarnation:
        return False
    if not _may_begin(reading, draft, type_, shard):
        return False
    _begin(reading, draft, type_, shard, worker)
    return True


def stuck(reading: Reading, candidates: Candidates) -> frozenset[tuple[NodeId, str]]:
    """Draining nodes, and the types of which they own shards that nobody may be given."""
    return frozenset(
        (worker.node_id, kind.type)
        for worker in reading.draining()
        for kind in reading.kinds()
        if not candidates.next_owners(kind) and _owned(reading, kind.type, worker)
    )


def _may_begin(reading: Reading, draft: Draft, type_: str, shard: int) -> bool:
    """Is the shard served, and in no hand-off?"""
    owner = reading.owner(type_, shard)
    return (
        owner is not None
        and reading.roster.serves(owner.incarnation)
        and reading.handoffs.get(type_, shard) is None
        and not draft.touches(type_, shard)
    )


def _begin(reading: Reading, draft: Draft, type_: str, shard: int, to: Worker) -> None:
    draft.hand_off(type_, shard, to.incarnation, reading.settings.handoff_timeout_ms)


def _end(one: Underway, reading: Reading, candidates: Candidates, draft: Draft) -> None:
    kind = reading.types.get(one.type)
    able = candidates.able(kind) if kind is not None else []
    to = next((worker for worker in able if worker.incarnation == one.to), None)
    if to is None and kind is not None and able:
        to = candidates.homes(kind, [one.shard], candidates.best(kind), draft)[one.shard]
    if to is not None and kind is not None:
        draft.give(one.type, one.shard, owner_of(to, kind))
        return
    table = reading.tables[one.type, one.shard // CHUNK]
    owner = table.owner_of(one.shard)
    if owner is not None and reading.roster.serves(owner.incarnation):
        draft.give(one.type, one.shard, owner)


def _owned(reading: Reading, type_: str, worker: Worker) -> list[int]:
    """Its shards of the type that are in no hand-off."""
    kind = reading.types[type_]
    return [
        shard
        for table in reading.tables_of(kind)
        for shard in table.shards_of(worker.incarnation)
        if shard not in table.handoffs
    ]
