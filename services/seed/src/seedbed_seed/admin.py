"""`seedbed.v1.Admin`: the cluster as operators and tools see it, and what they may do to it.

Every call leaves one line in the log, whatever its outcome.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

from seedbed.errors import CallError, Reason
from seedbed.transport import Method, ServerCall, ServerStreamMethod, StatusError, UnaryMethod
from seedbed.v1 import admin_pb2
from seedbed_seed import listings
from seedbed_seed.cluster_view import ClusterView
from seedbed_seed.events import Events
from seedbed_seed.journal_pin import JournalPin
from seedbed_seed.leader_verbs import FORWARDED_KEY, LeaderVerbs
from seedbed_seed.listings import TableOf
from seedbed_seed.order_verbs import OrderVerbs
from seedbed_seed.targets import bad_request, check_type

log = logging.getLogger(__name__)

PREFIX = "/seedbed.v1.Admin/"

SHOWN = 300
"""Characters of a request that the log shows."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One unary method. (`Any`: each handler takes its own request.)"""

    request: type[Message]
    handler: Callable[[ServerCall, Any], Awaitable[Message]]
    of_leader: bool = False


class Admin:
    """Answers from this seed's view of the store, and shards from the tables that it routes by:
    these never go back, not even while a restored store still holds older ones."""

    def __init__(
        self,
        *,
        view: ClusterView,
        table_of: TableOf,
        orders: OrderVerbs,
        leader: LeaderVerbs,
        pin: JournalPin,
        events: Events,
    ) -> None:
        self._view = view
        self._table_of = table_of
        self._leader = leader
        self._events = events
        pb = admin_pb2
        self._verbs = {
            "GetCluster": Verb(pb.GetClusterRequest, self._get_cluster),
            "ListMembers": Verb(pb.ListMembersRequest, self._list_members),
            "ListShards": Verb(pb.ListShardsRequest, self._list_shards),
            "Drain": Verb(pb.DrainRequest, orders.drain),
            "Cordon": Verb(pb.CordonRequest, orders.cordon),
            "Uncordon": Verb(pb.UncordonRequest, orders.uncordon),
            "PinShards": Verb(pb.PinShardsRequest, orders.pin),
            "Freeze": Verb(pb.FreezeRequest, orders.freeze),
            "Unfreeze": Verb(pb.UnfreezeRequest, orders.unfreeze),
            "AdoptJournal": Verb(pb.AdoptJournalRequest, pin.adopt),
            "MoveShards": Verb(pb.MoveShardsRequest, leader.move, of_leader=True),
            "Rebalance": Verb(pb.RebalanceRequest, leader.rebalance, of_leader=True),
        }

    def find(self, method: str) -> Method | None:
        """The method of this path, for the server."""
        if not method.startswith(PREFIX):
            return None
        name = method.removeprefix(PREFIX)
        if name == "WatchEvents":
            return ServerStreamMethod(self._watch_events)
        return UnaryMethod(self._answer) if name in self._verbs else None

    async def _answer(self, call: ServerCall, request: bytes) -> bytes:
        name = call.method.removeprefix(PREFIX)
        verb, what, outcome = self._verbs[name], "", "cancelled"
        try:
            try:
                asked = verb.request.FromString(request)
            except DecodeError as error:
                raise bad_request(f"the request is not what {name} takes: {error}") from error
            what = text_format.MessageToString(asked, as_one_line=True)[:SHOWN]
            if not self._view.synced:
                raise CallError(
                    Reason.SEED_NOT_READY, "this seed has not read etcd yet: ask another"
                )
            if verb.of_leader:
                passed_on = await self._leader.passed_on(call, request)
                if passed_on is not None:
                    outcome = f"passed on to {self._view.leader()}"
                    return passed_on
            answer = await verb.handler(call, asked)
            outcome = "done"
            return answer.SerializeToString()
        except CallError as error:
            outcome = f"{error.reason.value}: {error.message}"
            raise
        except StatusError as error:
            outcome = f"refused by the leader: {error.message}"
            raise
        except Exception as error:
            outcome = f"failed: {type(error).__name__}"
            raise
        finally:
            _audit(call, name, what, outcome)

    async def _watch_events(self, call: ServerCall, request: bytes) -> AsyncIterator[bytes]:
        outcome = "ended by the caller"
        try:
            async for event in self._events.watch(call, request):
                yield event
        except CallError as error:
            outcome = f"{error.reason.value}: {error.message}"
            raise
        finally:
            _audit(call, "WatchEvents", "", outcome)

    async def _get_cluster(
        self, call: ServerCall, asked: admin_pb2.GetClusterRequest
    ) -> admin_pb2.GetClusterResponse:
        return admin_pb2.GetClusterResponse(
            cluster=self._view.keys.cluster,
            coordinator=self._view.leader(),
            types=listings.types(self._view),
            frozen=self._view.orders.frozen,
            frozen_reason=self._view.orders.frozen_reason,
        )

    async def _list_members(
        self, call: ServerCall, asked: admin_pb2.ListMembersRequest
    ) -> admin_pb2.ListMembersResponse:
        return admin_pb2.ListMembersResponse(members=listings.members(self._view))

    async def _list_shards(
        self, call: ServerCall, asked: admin_pb2.ListShardsRequest
    ) -> admin_pb2.ListShardsResponse:
        if asked.type:
            check_type(self._view, asked.type)
        return admin_pb2.ListShardsResponse(
            shards=listings.shards(self._view, self._table_of, asked.type)
        )


def _audit(call: ServerCall, name: str, what: str, outcome: str) -> None:
    forwarded = next((value for key, value in call.metadata if key == FORWARDED_KEY), "")
    log.info(
        "admin call",
        extra={
            "method": name,
            "peer": call.peer,
            "forwarded_by": forwarded,
            "what": what,
            "outcome": outcome,
        },
    )
