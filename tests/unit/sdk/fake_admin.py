"""An Admin service that stands still, for the command line's tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import grpc
from google.protobuf.message import Message

from seedbed.v1 import admin_pb2, admin_pb2_grpc, store_pb2


class Admin(admin_pb2_grpc.AdminServicer):
    """A cluster that stands still, but for the shards of its worker."""

    shards = 1024
    asked: ClassVar[list[Message]] = []
    """Requests that order something."""
    left: ClassVar[list[int]] = []
    """Shards that the next answers to Drain name."""
    lives: ClassVar[list[Sequence[admin_pb2.Event]]] = []
    """What each WatchEvents tells before it ends."""

    def GetCluster(
        self, request: admin_pb2.GetClusterRequest, context: grpc.ServicerContext
    ) -> admin_pb2.GetClusterResponse:
        thermostat = admin_pb2.EntityType(type="thermostat", shard_count=1024, generation=2**53)
        return admin_pb2.GetClusterResponse(
            cluster="default", coordinator="seed-1", types=[thermostat]
        )

    def AdoptJournal(
        self, request: admin_pb2.AdoptJournalRequest, context: grpc.ServicerContext
    ) -> admin_pb2.AdoptJournalResponse:
        self.asked.append(request)
        return admin_pb2.AdoptJournalResponse(
            cluster=request.cluster, cluster_uid="new", journal_id=request.journal_id
        )

    def ListMembers(
        self, request: admin_pb2.ListMembersRequest, context: grpc.ServicerContext
    ) -> admin_pb2.ListMembersResponse:
        worker = store_pb2.Member(
            node_id="worker-1",
            role=store_pb2.ROLE_WORKER,
            status=store_pb2.MEMBER_STATUS_UP,
            host="127.0.0.1",
            port=4685,
            shards=self.shards,
        )
        return admin_pb2.ListMembersResponse(members=[worker])

    def ListShards(
        self, request: admin_pb2.ListShardsRequest, context: grpc.ServicerContext
    ) -> admin_pb2.ListShardsResponse:
        response = admin_pb2.ListShardsResponse()
        if request.type in ("", "thermostat"):
            response.shards.add(
                type="thermostat",
                shard=7,
                owner="worker-1",
                epoch=2**53 + 1,
                phase=store_pb2.SHARD_PHASE_OWNED,
            )
            response.shards.add(type="thermostat", shard=8)
        return response

    def Drain(
        self, request: admin_pb2.DrainRequest, context: grpc.ServicerContext
    ) -> admin_pb2.DrainResponse:
        self.asked.append(request)
        member = self._member(request.node_id, context)
        member.shards = self.left.pop(0) if self.left else 0
        return admin_pb2.DrainResponse(member=member, note="nowhere to go" if self.left else "")

    def Cordon(
        self, request: admin_pb2.CordonRequest, context: grpc.ServicerContext
    ) -> admin_pb2.CordonResponse:
        self.asked.append(request)
        member = self._member(request.node_id, context)
        member.cordoned = True
        return admin_pb2.CordonResponse(member=member)

    def Uncordon(
        self, request: admin_pb2.UncordonRequest, context: grpc.ServicerContext
    ) -> admin_pb2.UncordonResponse:
        self.asked.append(request)
        member = self._member(request.node_id, context)
        member.cordoned = False
        return admin_pb2.UncordonResponse(member=member)

    def MoveShards(
        self, request: admin_pb2.MoveShardsRequest, context: grpc.ServicerContext
    ) -> admin_pb2.MoveShardsResponse:
        self.asked.append(request)
        return admin_pb2.MoveShardsResponse(
            shards=[
                admin_pb2.Shard(type=request.type, shard=shard, owner=request.node_id)
                for shard in request.shards
            ]
        )

    def PinShards(
        self, request: admin_pb2.PinShardsRequest, context: grpc.ServicerContext
    ) -> admin_pb2.PinShardsResponse:
        self.asked.append(request)
        return admin_pb2.PinShardsResponse(
            shards=[
                admin_pb2.Shard(type=request.type, shard=shard, pinned=request.node_id)
                for shard in request.shards
            ]
        )

    def Rebalance(
        self, request: admin_pb2.RebalanceRequest, context: grpc.ServicerContext
    ) -> admin_pb2.RebalanceResponse:
        self.asked.append(request)
        move = admin_pb2.Move(type="cup", shard=3, from_node="worker-1", to_node="worker-2")
        spread = admin_pb2.TypeSpread(type="cup", before=1.0, after=0.5)
        return admin_pb2.RebalanceResponse(
            moves=[move], applied=request.apply, held_back="frozen: lunch", types=[spread]
        )

    def Freeze(
        self, request: admin_pb2.FreezeRequest, context: grpc.ServicerContext
    ) -> admin_pb2.FreezeResponse:
        self.asked.append(request)
        return admin_pb2.FreezeResponse()

    def Unfreeze(
        self, request: admin_pb2.UnfreezeRequest, context: grpc.ServicerContext
    ) -> admin_pb2.UnfreezeResponse:
        self.asked.append(request)
        return admin_pb2.UnfreezeResponse()

    def WatchEvents(
        self, request: admin_pb2.WatchEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[admin_pb2.Event]:
        if not self.lives:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "nothing more")
        yield from self.lives.pop(0)
        context.abort(grpc.StatusCode.UNAVAILABLE, "this seed is going away")

    def _member(self, node_id: str, context: grpc.ServicerContext) -> store_pb2.Member:
        if node_id != "worker-1":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no worker {node_id!r}")
        return store_pb2.Member(node_id=node_id, status=store_pb2.MEMBER_STATUS_UP)
