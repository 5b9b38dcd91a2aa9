"""When shards are evened out, which of them may move, and why nothing does.

Theory. A rebalance is the one movement that nobody needs at once, so everything else comes first.
It waits while operators have frozen it, and for a type while a worker of it drains or is silent,
while its versions are mixed (an update would move the shards again), and while a hand-off from a
worker that has left is under way. It looks every `interval_ns`, and first an interval after the
election, so that workers which come back together are all there. It begins if the spread is over
the threshold (`evening` says what moves); at most `max_moves` shards are in hand-off then, whatever
for. Shards that are pinned, in hand-off, or have moved lately stay.
"""

from __future__ import annotations

from seedbed.ids import NodeId
from seedbed_seed.core.candidates import Candidates
from seedbed_seed.core.decisions import ContractSeen, Plan, PlannedMove
from seedbed_seed.core.draft import Draft
from seedbed_seed.core.evening import Load, even_out, spread
from seedbed_seed.core.moving import begin_move
from seedbed_seed.core.reading import Reading
from seedbed_seed.core.versions import mixed


class Rebalancing:
    """When this leader looks next."""

    __slots__ = ("_due_ns", "_interval_ns")

    def __init__(self, interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._due_ns = 0

    def elected(self, now_ns: int) -> None:
        """This seed leads from now on."""
        self._due_ns = now_ns + self._interval_ns

    def begin(
        self, reading: Reading, candidates: Candidates, draft: Draft, now_ns: int, wall_ms: int
    ) -> int | None:
        """Hand off what evens loads out, if it is time; returns when it is time again."""
        if reading.orders.frozen or all(len(candidates.hosts(k)) < 2 for k in reading.kinds()):
            return None
        if now_ns < self._due_ns:
            return self._due_ns
        self._due_ns = now_ns + self._interval_ns
        for kind in reading.kinds():
            if not _held_back(reading, candidates, kind):
                moves, _ = _moves(reading, candidates, draft, kind, now_ns, wall_ms)
                for move in moves:
                    begin_move(reading, candidates, draft, move.type, move.shard, move.to)
        return self._due_ns


def plan(reading: Reading, candidates: Candidates, draft: Draft, now_ns: int, wall_ms: int) -> Plan:
    """What would even loads out now, be it held back or not."""
    planned: list[PlannedMove] = []
    spreads: dict[str, tuple[float, float]] = {}
    reasons: list[str] = []
    for kind in reading.kinds():
        moves, spreads[kind.type] = _moves(reading, candidates, draft, kind, now_ns, wall_ms)
        for move in moves:
            begin_move(reading, candidates, draft, move.type, move.shard, move.to)
        planned += moves
        if reason := _held_back(reading, candidates, kind):
            reasons.append(reason)
        elif not moves:
            reasons.append(f"{kind.type}: {_why_none(reading, draft, spreads[kind.type][0])}")
    held_back = "; ".join(dict.fromkeys(reasons))
    frozen = _frozen(reading)
    going = len(reasons) < len(reading.types) and not frozen
    return Plan(tuple(planned), spreads, "" if going else frozen or held_back or "no types yet")


def _frozen(reading: Reading) -> str:
    orders = reading.orders
    return f"frozen: {orders.frozen_reason or 'no reason given'}" if orders.frozen else ""


def _held_back(reading: Reading, candidates: Candidates, kind: ContractSeen) -> str:
    """Why nothing of the type is rebalanced by itself, whatever its loads; empty: it may be."""
    if frozen := _frozen(reading):
        return frozen
    hosts = candidates.hosts(kind)
    for worker in hosts:
        if reading.is_draining(worker):
            return f"{kind.type}: {worker.node_id} is draining"
        if not reading.roster.reachable(worker.incarnation):
            return f"{kind.type}: {worker.node_id} is silent"
    if mixed(hosts):
        return f"{kind.type}: its workers have different versions (an update is under way)"
    for one in reading.handoffs:
        if one.type == kind.type and not reading.roster.serves(one.owner):
            return f"{kind.type}: shards of a worker that has left are on their way"
    return ""


def _why_none(reading: Reading, draft: Draft, now: float) -> str:
    settings = reading.settings.rebalance
    if now <= settings.threshold:
        return f"the spread {now:.2f} is not above {settings.threshold:g}"
    if _room(reading, draft) <= 0:
        return f"{settings.max_moves} shards are on their way"
    return "no shard that may move would lower the spread (they moved lately, or are pinned)"


def _room(reading: Reading, draft: Draft) -> int:
    """How many more may be in hand-off."""
    return reading.settings.rebalance.max_moves - len(reading.handoffs) - draft.begun


def _moves(
    reading: Reading,
    candidates: Candidates,
    draft: Draft,
    kind: ContractSeen,
    now_ns: int,
    wall_ms: int,
) -> tuple[list[PlannedMove], tuple[float, float]]:
    """What evens the type out, and its spread before and after."""
    takers = {worker.node_id: worker for worker in candidates.next_owners(kind)}
    counts = draft.loads()
    loads = {
        worker.node_id: Load(
            worker.node_id,
            worker.node_id in takers,
            counts[kind.type, worker.incarnation],
        )
        for worker in candidates.hosts(kind)
        if worker.node_id in takers or counts[kind.type, worker.incarnation]
    }
    before = spread(loads.values())
    room = _room(reading, draft)
    if before <= reading.settings.rebalance.threshold or room <= 0:
        return [], (before, before)
    _find_movable(reading, draft, kind, loads, now_ns, wall_ms)
    moves = [
        PlannedMove(kind.type, shard, source, to)
        for shard, source, to in even_out(loads.values(), room)
    ]
    return moves, (before, spread(loads.values()))


def _find_movable(
    reading: Reading,
    draft: Draft,
    kind: ContractSeen,
    loads: dict[NodeId, Load],
    now_ns: int,
    wall_ms: int,
) -> None:
    """Note which shards may leave each worker, and how busy it is."""
    for table in reading.tables_of(kind):
        for place, index in enumerate(table.owner):
            if not index:
                continue
            owner = table.owners[index - 1]
            shard = table.first_shard + place
            worker = reading.roster.on(owner.node_id)
            load = loads.get(owner.node_id)
            if worker is None or worker.incarnation != owner.incarnation or load is None:
                continue
            rate = worker.rates.get((kind.type, shard), 0.0)
            if shard in table.handoffs or draft.touches(kind.type, shard):
                continue
            load.rate += rate
            pinned = (kind.type, shard) in reading.orders.pins
            if not pinned and not reading.cooling.holds(table, shard, now_ns, wall_ms):
                load.movable.append((rate, shard))
