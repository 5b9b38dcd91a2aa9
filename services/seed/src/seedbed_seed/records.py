"""Keys and values of what lies in the store: the one place that knows how members are written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from seedbed.errors import ProtocolError
from seedbed.ids import Epoch, Incarnation, NodeId
from seedbed.routing import Release
from seedbed.v1 import cluster_pb2, store_pb2
from seedbed_seed.core.membership import Status, Worker
from seedbed_seed.store import Entry


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of the cluster's keys; all begin with `prefix`, which the one watch covers."""

    cluster: str

    @property
    def prefix(self) -> str:
        return f"/seedbed/{self.cluster}/"

    @property
    def workers(self) -> str:
        return f"{self.prefix}members/worker/"

    @property
    def seeds(self) -> str:
        return f"{self.prefix}members/seed/"

    @property
    def tables(self) -> str:
        return f"{self.prefix}tables/"

    @property
    def contracts(self) -> str:
        return f"{self.prefix}contracts/"

    @property
    def orders(self) -> str:
        return f"{self.prefix}orders"

    @property
    def info(self) -> str:
        return f"{self.prefix}info"

    @property
    def election(self) -> str:
        return f"{self.prefix}election/"

    def worker(self, node_id: str) -> str:
        return self.workers + node_id

    def seed(self, node_id: str) -> str:
        return self.seeds + node_id

    def table(self, type_: str, chunk: int) -> str:
        return f"{self.tables}{type_}/{chunk}"

    def contract(self, type_: str) -> str:
        return self.contracts + type_


def parse_record(value: bytes) -> store_pb2.MemberRecord:
    """Raises `ProtocolError` if the bytes are no member record."""
    record = store_pb2.MemberRecord()
    try:
        record.ParseFromString(value)
    except DecodeError as error:
        raise ProtocolError(f"not a member record: {error}") from error
    if not record.member.node_id or not record.member.incarnation:
        raise ProtocolError("a member record without node id or incarnation")
    return record


_STATUS = {
    store_pb2.MEMBER_STATUS_JOINING: Status.JOINING,
    store_pb2.MEMBER_STATUS_UP: Status.UP,
    store_pb2.MEMBER_STATUS_DRAINING: Status.DRAINING,
    store_pb2.MEMBER_STATUS_LEFT: Status.LEFT,
    store_pb2.MEMBER_STATUS_DOWN: Status.DOWN,
}


def worker_of(record: store_pb2.MemberRecord, entry: Entry) -> Worker:
    """The core's view of a worker's record. Raises `ProtocolError` for an unknown status."""
    member = record.member
    status = _STATUS.get(member.status)
    if status is None:
        raise ProtocolError(f"member {member.node_id}: unknown status {member.status}")
    return Worker(
        node_id=NodeId(member.node_id),
        incarnation=Incarnation(member.incarnation),
        host=member.host,
        port=member.port,
        roles=frozenset(member.roles),
        zone=member.zone,
        app_version=member.app_version,
        app_revision=record.app_revision,
        status=status,
        ttl_ns=record.lease_ttl_ms * 1_000_000,
        types={hosted.type: hosted.durable for hosted in record.types},
        create_revision=entry.create_revision,
        mod_revision=entry.mod_revision,
        stream_id=record.stream_id,
        silent_age_ns=record.silent.age_ms * 1_000_000 if record.HasField("silent") else None,
        replaced=record.replaced_incarnation,
        released=releases_of(record.released),
        rates={(one.type, one.shard): one.calls_per_s for one in record.load.hottest},
    )


def releases_of(lists: Iterable[store_pb2.ReleasedShards]) -> frozenset[Release]:
    """All that these lists, one for each type, say was released."""
    return frozenset(
        Release(of_type.type, shard, Epoch(epoch))
        for of_type in lists
        for shard, epoch in zip(of_type.shards, of_type.epochs, strict=False)
    )


def record_of(
    hello: cluster_pb2.Hello, *, lease: int, ttl_ms: int, secret: bytes, replaced: str
) -> store_pb2.MemberRecord:
    """The first record of the incarnation that says this Hello."""
    return store_pb2.MemberRecord(
        member=store_pb2.Member(
            node_id=hello.node_id,
            incarnation=hello.incarnation,
            role=store_pb2.ROLE_WORKER,
            status=store_pb2.MEMBER_STATUS_JOINING,
            roles=hello.roles,
            zone=hello.zone,
            app_version=hello.app_version,
            host=hello.host,
            port=hello.port,
        ),
        lease_id=lease,
        lease_ttl_ms=ttl_ms,
        secret_hash=secret_hash(secret),
        stream_id=hello.stream_id,
        types=[store_pb2.HostedType(type=t.type, durable=t.durable) for t in hello.types],
        replaced_incarnation=replaced,
        app_revision=hello.app_revision,
    )


def secret_hash(secret: bytes) -> bytes:
    """What is stored of a resume's secret."""
    return hashlib.sha256(secret).digest()
