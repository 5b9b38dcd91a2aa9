"""Register's messages as bytes: between `cluster.proto` and the session core's vocabulary."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from google.protobuf.message import DecodeError

from seedbed import tables
from seedbed.errors import ProtocolError
from seedbed.lease_state import LeaseState
from seedbed.routing import Release
from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_worker.core import session_messages as msg
from seedbed_worker.journal.port import Whose

REGISTER = "/seedbed.v1.Cluster/Register"

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1
"""What this release speaks on Register."""

_NS_PER_MS = 1_000_000

_STATES = {
    pb.LEASE_STATE_RENEWED: LeaseState.RENEWED,
    pb.LEASE_STATE_LOST: LeaseState.LOST,
    pb.LEASE_STATE_UNKNOWN: LeaseState.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class DeclaredType:
    """An entity type that this worker hosts, as its Hello declares it."""

    type: str
    service: str
    shard_count: int
    durable: bool
    descriptors: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """What a worker's Hello says about it, always the same."""

    cluster: str
    node_id: str
    host: str
    port: int
    roles: tuple[str, ...] = ()
    zone: str = ""
    app_version: str = ""
    app_revision: str = ""
    types: tuple[DeclaredType, ...] = ()


class ShardRate(NamedTuple):
    """How many calls come to a shard."""

    type: str
    shard: int
    calls_per_s: float


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What a heartbeat says of the worker's load."""

    active_entities: int = 0
    calls_per_s: float = 0.0
    hottest: tuple[ShardRate, ...] = ()
    """Its busiest shards, the busiest first."""


def hello(identity: Identity, message: msg.Hello, whose: Whose | None = None) -> bytes:
    """A Hello of this worker; `whose` is its journal, if it has one."""
    wire = pb.Hello(
        protocol_min=PROTOCOL_MIN,
        protocol_max=PROTOCOL_MAX,
        cluster=identity.cluster,
        node_id=identity.node_id,
        incarnation=message.incarnation,
        stream_id=message.stream_id,
        host=identity.host,
        port=identity.port,
        roles=identity.roles,
        zone=identity.zone,
        app_version=identity.app_version,
        app_revision=identity.app_revision,
        types=[
            pb.TypeDeclaration(
                type=declared.type,
                shard_count=declared.shard_count,
                durable=declared.durable,
                service=declared.service,
                descriptors=declared.descriptors,
            )
            for declared in identity.types
        ],
    )
    if whose is not None:
        wire.journal.CopyFrom(
            pb.Journal(
                journal_id=whose.journal_id,
                timeline=whose.timeline,
                cluster_uid=whose.cluster_uid,
            )
        )
    if (hold := message.resume) is not None:
        wire.resume.CopyFrom(pb.Resume(lease_id=hold.lease_id, secret=hold.secret))
    if (hold := message.replace) is not None:
        wire.replace.CopyFrom(pb.Replace(incarnation=hold.incarnation, secret=hold.secret))
    return pb.WorkerMessage(hello=wire).SerializeToString()


def to_seed(message: msg.ToSeed, load: LoadSummary) -> bytes:
    """Any other message of a worker; `load` goes with heartbeats."""
    match message:
        case msg.Beat(seq, released):
            summary = store_pb2.Load(
                active_entities=load.active_entities,
                calls_per_s=load.calls_per_s,
                hottest=[
                    store_pb2.ShardLoad(type=type_, shard=shard, calls_per_s=rate)
                    for type_, shard, rate in load.hottest
                ],
            )
            wire = pb.WorkerMessage(
                heartbeat=pb.Heartbeat(seq=seq, load=summary, released=_by_type(released))
            )
        case msg.Released(released):
            wire = pb.WorkerMessage(released=pb.Released(released=_by_type(released)))
        case msg.EpochSeen(type_, shard, epoch):
            wire = pb.WorkerMessage(epoch_seen=pb.EpochSeen(type=type_, shard=shard, epoch=epoch))
        case msg.Draining():
            wire = pb.WorkerMessage(draining=pb.Draining())
        case msg.Goodbye():
            wire = pb.WorkerMessage(goodbye=pb.Goodbye())
        case _:
            assert_never(message)
    return wire.SerializeToString()


def _by_type(released: Iterable[Release]) -> list[store_pb2.ReleasedShards]:
    lists: dict[str, store_pb2.ReleasedShards] = {}
    for type_, shard, epoch in released:
        of_type = lists.setdefault(type_, store_pb2.ReleasedShards(type=type_))
        of_type.shards.append(shard)
        of_type.epochs.append(epoch)
    return list(lists.values())


def from_seed(raw: bytes, wall_ms: int) -> msg.FromSeed:
    """A seed's message, read at `wall_ms`; raises `ProtocolError` if it is none."""
    try:
        wire = pb.SeedMessage.FromString(raw)
    except DecodeError as error:
        raise ProtocolError("bytes that are no SeedMessage") from error
    match wire.WhichOneof("kind"):
        case "welcome":
            return _welcome(wire.welcome, wall_ms)
        case "refused":
            refused = wire.refused
            return msg.Refused(refused.reason, refused.message, refused.retry_after_ms * _NS_PER_MS)
        case "heartbeat_ack":
            return _ack(wire.heartbeat_ack, wall_ms)
        case "routes":
            return msg.Routes(
                tuple(tables.from_proto(table) for table in wire.routes.tables),
                wire.routes.snapshot,
                tuple(wire.routes.seeds),
            )
        case "go_elsewhere":
            return msg.GoElsewhere()
        case "farewell":
            return msg.Farewell()
        case "up":
            return msg.RecordUp()
        case _:
            raise ProtocolError("a SeedMessage without a kind that this release knows")


def _welcome(welcome: pb.Welcome, wall_ms: int) -> msg.Welcome:
    if not welcome.ttl_ms or not welcome.lease_id:
        raise ProtocolError("a Welcome without a lease")
    if not PROTOCOL_MIN <= welcome.protocol <= PROTOCOL_MAX:
        raise ProtocolError(f"a Welcome in protocol {welcome.protocol}")
    return msg.Welcome(
        welcome.lease_id,
        welcome.secret,
        welcome.ttl_ms * _NS_PER_MS,
        tuple(welcome.seeds),
        _skew(welcome.time_ms, wall_ms),
        welcome.cluster_uid,
        dict(welcome.shard_counts),
    )


def _ack(ack: pb.HeartbeatAck, wall_ms: int) -> msg.Acked:
    state = _STATES.get(ack.state)
    if state is None or (state is LeaseState.RENEWED and not ack.ttl_ms):
        raise ProtocolError(f"a HeartbeatAck with state {ack.state} and TTL {ack.ttl_ms} ms")
    return msg.Acked(ack.seq, state, ack.ttl_ms * _NS_PER_MS, _skew(ack.time_ms, wall_ms))


def _skew(time_ms: int, wall_ms: int) -> int:
    return time_ms - wall_ms if time_ms else 0
