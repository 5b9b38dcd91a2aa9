"""`seedbed.v1.Admin` and the read side of it: the cluster as operators and tools see it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from google.protobuf.message import DecodeError, Message

from seedbed.errors import CallError, Reason
from seedbed.transport import Method, ServerCall, UnaryMethod
from seedbed.v1 import admin_pb2
from seedbed_seed import listings
from seedbed_seed.cluster_view import ClusterView
from seedbed_seed.listings import TableOf

log = logging.getLogger(__name__)

PREFIX = "/seedbed.v1.Admin/"


class Admin:
    """Answers from this seed's view of the store, and shards from the tables that it routes by:
    these never go back, not even while a restored store still holds older ones."""

    def __init__(self, view: ClusterView, table_of: TableOf) -> None:
        self._view = view
        self._table_of = table_of
        self._answers: dict[str, Callable[[bytes], Message]] = {
            "GetCluster": self._get_cluster,
            "ListMembers": self._list_members,
            "ListShards": self._list_shards,
        }

    def find(self, method: str) -> Method | None:
        """The method of this path, for the server."""
        known = method.startswith(PREFIX) and method.removeprefix(PREFIX) in self._answers
        return UnaryMethod(self._answer) if known else None

    async def _answer(self, call: ServerCall, request: bytes) -> bytes:
        name = call.method.removeprefix(PREFIX)
        log.info("admin call", extra={"method": name, "peer": call.peer})
        if not self._view.synced:
            raise CallError(Reason.SEED_NOT_READY, "this seed has not read etcd yet: ask another")
        try:
            answer = self._answers[name](request)
        except DecodeError as error:
            message = f"the request is not what {name} takes: {error}"
            raise CallError(Reason.BAD_REQUEST, message) from error
        return answer.SerializeToString()

    def _get_cluster(self, request: bytes) -> Message:
        admin_pb2.GetClusterRequest.FromString(request)
        return admin_pb2.GetClusterResponse(
            cluster=self._view.keys.cluster,
            coordinator=self._view.leader(),
            types=listings.types(self._view),
            frozen=False,
        )

    def _list_members(self, request: bytes) -> Message:
        admin_pb2.ListMembersRequest.FromString(request)
        return admin_pb2.ListMembersResponse(members=listings.members(self._view))

    def _list_shards(self, request: bytes) -> Message:
        asked = admin_pb2.ListShardsRequest.FromString(request)
        if asked.type and asked.type not in self._view.contracts:
            known = ", ".join(sorted(self._view.contracts)) or "none yet"
            raise CallError(
                Reason.BAD_REQUEST, f"no entity type {asked.type!r} in this cluster; known: {known}"
            )
        return admin_pb2.ListShardsResponse(
            shards=listings.shards(self._view, self._table_of, asked.type)
        )
