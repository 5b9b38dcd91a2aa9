"""Moves that an operator has ordered, until each has begun; and why one cannot begin, in words.

They are in this leader's memory only: whoever ordered them sees in the tables whether they begin,
and orders anew if the leader is gone before. A move that cannot begin is dropped, not kept for a
better time: a pin is for that.
"""

from __future__ import annotations

from collections.abc import Iterable

from seedbed.ids import NodeId
from seedbed_seed.core.candidates import Candidates
from seedbed_seed.core.decisions import ShardMove
from seedbed_seed.core.draft import Draft
from seedbed_seed.core.moving import begin_move
from seedbed_seed.core.reading import Reading


class OrderedMoves:
    """Those that have not begun."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, int], NodeId] = {}

    def add(self, moves: Iterable[ShardMove]) -> None:
        """The last order for a shard counts."""
        self._waiting.update(((move.type, move.shard), move.to) for move in moves)

    def forget(self) -> None:
        """This seed leads no more."""
        self._waiting.clear()

    def begin(self, reading: Reading, candidates: Candidates, draft: Draft) -> None:
        """Begin those that can, and drop the others.

        What begins is kept for the case that the write fails; once the table shows it, it can begin
        no more.
        """
        self._waiting = {
            (type_, shard): to
            for (type_, shard), to in self._waiting.items()
            if begin_move(reading, candidates, draft, type_, shard, to)
        }


def why_not(reading: Reading, candidates: Candidates, moves: Iterable[ShardMove]) -> str:
    """Why not all of these moves can begin; empty: they can."""
    for move in moves:
        if reason := _why_not(reading, candidates, move):
            return f"{move.type}/{move.shard} cannot move to {move.to}: {reason}"
    return ""


def _why_not(reading: Reading, candidates: Candidates, move: ShardMove) -> str:
    kind = reading.types.get(move.type)
    if kind is None:
        return "there is no such type"
    if not 0 <= move.shard < kind.shard_count:
        return f"the type has shards 0 to {kind.shard_count - 1}"
    owner = reading.owner(move.type, move.shard)
    if owner is None or not reading.roster.serves(owner.incarnation):
        return "nobody owns the shard now, and it will be given to somebody first"
    if owner.node_id == move.to:
        return ""
    handoff = reading.handoffs.get(move.type, move.shard)
    if handoff is not None:
        to = reading.roster.node(handoff.to)
        return f"it is being handed off to {to or handoff.to} already"
    if candidates.next_owner_on(kind, move.to) is None:
        return _why_not_there(reading, kind.type, kind.role, move.to)
    pinned = candidates.pinned(kind, move.shard)
    if pinned is not None and pinned.node_id != move.to:
        return f"it is pinned to {pinned.node_id}; unpin it first"
    return ""


def _why_not_there(reading: Reading, type_: str, role: str, node_id: NodeId) -> str:
    worker = reading.roster.on(node_id)
    if worker is None:
        return "there is no such worker"
    if not worker.hosts(type_, role):
        return f"the worker does not host the type{f' under role {role}' if role else ''}"
    if reading.is_draining(worker):
        return "the worker is draining"
    if node_id in reading.orders.cordoned:
        return "the worker is cordoned; uncordon it first"
    if not reading.roster.reachable(worker.incarnation):
        return "the worker is silent"
    return f"the worker is {worker.status.value}, and not UP"
