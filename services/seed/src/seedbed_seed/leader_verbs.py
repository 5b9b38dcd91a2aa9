"""`Admin`'s verbs that only the seed that leads can carry out: MoveShards and Rebalance.

Another seed passes the raw call on to it, once: a call that was passed on is never passed on again,
so that two seeds which disagree about who leads do not play ball with it. The leader answers when
its tables show that the hand-offs have begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from seedbed.clock import Clock
from seedbed.errors import CallError, Reason
from seedbed.ids import NodeId
from seedbed.routing import CHUNK
from seedbed.transport import Disconnected, ServerCall, Transport
from seedbed.v1 import admin_pb2
from seedbed_seed import listings
from seedbed_seed.cluster_view import ClusterView
from seedbed_seed.core.decisions import ShardMove
from seedbed_seed.listings import TableOf
from seedbed_seed.targets import bad_request, check_shards, check_worker

FORWARDED_KEY: Final = "seedbed-forwarded-by"
"""Metadata of a call that another seed passed on: its node id."""

BEGIN_S = 10.0
"""How long a call without a deadline waits for its hand-offs to begin."""

AGAIN_S = 1.0
"""When to ask again if nobody leads."""

Lead = Callable[[Sequence[ShardMove]], bool]
"""Orders moves of this seed's coordinator; False if it is not here."""


class LeaderVerbs:
    """`leads` and `order` ask this seed's driver."""

    def __init__(
        self,
        *,
        view: ClusterView,
        node_id: str,
        transport: Transport,
        clock: Clock,
        table_of: TableOf,
        leads: Callable[[], bool],
        order: Lead,
    ) -> None:
        self._view = view
        self._node_id = node_id
        self._transport = transport
        self._clock = clock
        self._table_of = table_of
        self._leads = leads
        self._order = order

    async def passed_on(self, call: ServerCall, request: bytes) -> bytes | None:
        """What the seed that leads answers; None if this one does."""
        if self._leads():
            return None
        leader, address = self._view.leader(), self._view.leader_address()
        if any(key == FORWARDED_KEY for key, _ in call.metadata):
            raise self._nobody(f"this seed does not lead, {leader or 'nobody'} does")
        if not address or leader == self._node_id:
            raise self._nobody("no seed leads now, another is being elected")
        connection = self._transport.connect(address)
        try:
            return await connection.unary(
                call.method,
                request,
                timeout=self._left_s(call),
                metadata=((FORWARDED_KEY, self._node_id),),
            )
        except Disconnected as error:
            if not error.reached:
                raise self._nobody(f"{leader}, which leads, is not reached ({error})") from error
            raise CallError(
                Reason.OUTCOME_UNKNOWN,
                f"{leader}, which leads, did not answer ({error}): the shards' list shows what has"
                " begun",
            ) from error
        finally:
            await connection.close()

    async def move(
        self, call: ServerCall, asked: admin_pb2.MoveShardsRequest
    ) -> admin_pb2.MoveShardsResponse:
        """Hand off shards to a node."""
        shards = check_shards(self._view, asked.type, asked.shards)
        node = NodeId(check_worker(self._view, asked.node_id))
        await self._begin(call, [ShardMove(asked.type, shard, node) for shard in shards])
        found = listings.some_shards(self._view, self._table_of, asked.type, shards)
        return admin_pb2.MoveShardsResponse(shards=found)

    async def rebalance(
        self, call: ServerCall, asked: admin_pb2.RebalanceRequest
    ) -> admin_pb2.RebalanceResponse:
        """What would be moved; with `apply` it is moved, whatever holds it back but a freeze."""
        orders = self._view.orders
        if asked.apply and orders.frozen:
            reason = orders.frozen_reason or "no reason given"
            raise bad_request(f"rebalancing is frozen ({reason}): unfreeze it first")
        now_ns, wall_ms = self._clock.now_ns(), self._clock.wall_ms()
        plan = self._view.coordinator.plan(now_ns, wall_ms)
        if asked.apply:
            await self._begin(call, [ShardMove(m.type, m.shard, m.to) for m in plan.moves])
        return admin_pb2.RebalanceResponse(
            moves=[
                admin_pb2.Move(type=m.type, shard=m.shard, from_node=m.source, to_node=m.to)
                for m in plan.moves
            ],
            applied=asked.apply,
            held_back=plan.held_back,
            types=[
                admin_pb2.TypeSpread(type=type_, before=before, after=after)
                for type_, (before, after) in sorted(plan.spreads.items())
            ],
        )

    async def _begin(self, call: ServerCall, moves: list[ShardMove]) -> None:
        """Order the moves, and wait until all have begun. Those that have not are ordered again
        with each update, since the coordinator drops what cannot begin at the moment."""
        left_s = self._left_s(call)
        try:
            async with asyncio.timeout(left_s):
                while waiting := [move for move in moves if not self._has_begun(move)]:
                    if why := self._view.coordinator.why_not(waiting):
                        raise bad_request(why)
                    if not self._order(waiting):
                        raise self._nobody("this seed led until now")
                    await self._view.changed()
        except TimeoutError:
            raise CallError(
                Reason.DEADLINE,
                f"not all of the hand-offs had begun after {left_s:.1f} s; they begin as soon as"
                " they can, and the shards' list shows it",
            ) from None

    def _has_begun(self, move: ShardMove) -> bool:
        table = self._table_of(move.type, move.shard // CHUNK)
        if table is None:
            return False
        handoff, owner = table.handoffs.get(move.shard), table.owner_of(move.shard)
        if handoff is None:
            return owner is not None and owner.node_id == move.to
        worker = self._view.workers.get(move.to)
        return worker is not None and worker.record.member.incarnation == handoff.to

    def _left_s(self, call: ServerCall) -> float:
        if call.deadline_ns is None:
            return BEGIN_S
        # (A little less, so that the answer that says so still arrives.)
        return max(0.05, (call.deadline_ns - self._clock.now_ns()) / 1e9 * 0.9)

    def _nobody(self, why: str) -> CallError:
        return CallError(
            Reason.SEED_NOT_READY, f"{why}; nothing was ordered: ask again", retry_after_s=AGAIN_S
        )
