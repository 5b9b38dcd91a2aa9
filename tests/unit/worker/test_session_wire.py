"""Register's messages as bytes."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from seedbed.errors import ProtocolError
from seedbed.ids import Epoch, Incarnation
from seedbed.lease_state import LeaseState
from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_worker.core import session_messages as msg
from seedbed_worker.journal.port import Whose
from seedbed_worker.session_wire import (
    DeclaredType,
    Identity,
    LoadSummary,
    from_seed,
    hello,
    to_seed,
)

ME = Identity(
    cluster="c",
    node_id="w1",
    host="10.0.0.1",
    port=4685,
    roles=("sharding", "iot"),
    zone="z",
    app_version="1.2",
    app_revision="7",
    types=(DeclaredType("thermostat", "demo.Thermostat", 64, durable=False, descriptors=b"d"),),
)
MS = 1_000_000


def said(message: pb.SeedMessage, wall_ms: int = 0) -> msg.FromSeed:
    return from_seed(message.SerializeToString(), wall_ms)


def test_a_hello_says_who_and_what() -> None:
    raw = hello(ME, msg.Hello(Incarnation("i1"), "s1"))
    wire = pb.WorkerMessage.FromString(raw).hello
    assert (wire.protocol_min, wire.protocol_max) == (1, 1)
    assert (wire.cluster, wire.node_id, wire.incarnation, wire.stream_id) == ("c", "w1", "i1", "s1")
    assert (wire.host, wire.port) == ("10.0.0.1", 4685)
    assert list(wire.roles) == ["sharding", "iot"]
    assert (wire.zone, wire.app_version, wire.app_revision) == ("z", "1.2", "7")
    [declared] = wire.types
    assert (declared.type, declared.service) == ("thermostat", "demo.Thermostat")
    assert (declared.shard_count, declared.durable, declared.descriptors) == (64, False, b"d")
    assert not wire.HasField("resume")
    assert not wire.HasField("replace")
    assert not wire.HasField("journal")


def test_a_hello_shows_the_journal() -> None:
    whose = Whose("j", "t", "c", "uid")
    wire = pb.WorkerMessage.FromString(hello(ME, msg.Hello(Incarnation("i1"), "s1"), whose))
    assert wire.hello.journal == pb.Journal(journal_id="j", timeline="t", cluster_uid="uid")


def test_a_welcome_names_the_cluster_and_its_shard_counts() -> None:
    sent = pb.Welcome(lease_id=1, ttl_ms=1, protocol=1, cluster_uid="u", shard_counts={"t": 8})
    read = said(pb.SeedMessage(welcome=sent))
    assert isinstance(read, msg.Welcome)
    assert (read.cluster_uid, read.shard_counts) == ("u", {"t": 8})


def test_a_hello_shows_the_secret_of_what_it_resumes_or_replaces() -> None:
    old = msg.Hold(Incarnation("i0"), 5, b"secret")
    resumed = pb.WorkerMessage.FromString(hello(ME, msg.Hello(Incarnation("i0"), "s", resume=old)))
    assert resumed.hello.resume == pb.Resume(lease_id=5, secret=b"secret")
    replaced = pb.WorkerMessage.FromString(
        hello(ME, msg.Hello(Incarnation("i1"), "s", replace=old))
    )
    assert replaced.hello.replace == pb.Replace(incarnation="i0", secret=b"secret")


@pytest.mark.parametrize(
    ("message", "kind", "wire"),
    [
        (
            msg.Beat(4),
            "heartbeat",
            pb.Heartbeat(seq=4, load=store_pb2.Load(active_entities=3, calls_per_s=1.5)),
        ),
        (
            msg.EpochSeen("t", 2, Epoch(9)),
            "epoch_seen",
            pb.EpochSeen(type="t", shard=2, epoch=9),
        ),
        (msg.Draining(), "draining", pb.Draining()),
        (msg.Goodbye(), "goodbye", pb.Goodbye()),
    ],
)
def test_what_a_worker_says(message: msg.ToSeed, kind: str, wire: Message) -> None:
    sent = pb.WorkerMessage.FromString(to_seed(message, LoadSummary(3, 1.5)))
    assert sent.WhichOneof("kind") == kind
    assert getattr(sent, kind) == wire


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        (
            pb.SeedMessage(
                welcome=pb.Welcome(
                    lease_id=7, secret=b"s", ttl_ms=5000, time_ms=1500, protocol=1, seeds=["a:1"]
                )
            ),
            msg.Welcome(7, b"s", 5000 * MS, ("a:1",), skew_ms=500),
        ),
        (
            pb.SeedMessage(refused=pb.Refused(reason="R", message="m", retry_after_ms=20)),
            msg.Refused("R", "m", 20 * MS),
        ),
        (
            pb.SeedMessage(
                heartbeat_ack=pb.HeartbeatAck(
                    seq=3, ttl_ms=5000, state=pb.LEASE_STATE_RENEWED, time_ms=900
                )
            ),
            msg.Acked(3, LeaseState.RENEWED, 5000 * MS, skew_ms=-100),
        ),
        (
            pb.SeedMessage(heartbeat_ack=pb.HeartbeatAck(seq=3, state=pb.LEASE_STATE_LOST)),
            msg.Acked(3, LeaseState.LOST, 0),
        ),
        (
            pb.SeedMessage(heartbeat_ack=pb.HeartbeatAck(seq=3, state=pb.LEASE_STATE_UNKNOWN)),
            msg.Acked(3, LeaseState.UNKNOWN, 0),
        ),
        (
            pb.SeedMessage(routes=pb.RouteUpdate(snapshot=True, seeds=["b:1"])),
            msg.Routes((), snapshot=True, seeds=("b:1",)),
        ),
        (pb.SeedMessage(go_elsewhere=pb.GoElsewhere()), msg.GoElsewhere()),
        (pb.SeedMessage(farewell=pb.Farewell()), msg.Farewell()),
    ],
)
def test_what_a_seed_says(message: pb.SeedMessage, meaning: msg.FromSeed) -> None:
    assert said(message, wall_ms=1000) == meaning


def test_tables_come_with_their_owners() -> None:
    table = store_pb2.AllocationTable(
        type="t",
        shard_count=2,
        generation=9,
        owners=[store_pb2.ShardOwner(node_id="w", incarnation="i", host="h", port=1)],
        owner=[1, 0],
        epoch=[9, 0],
    )
    routes = said(pb.SeedMessage(routes=pb.RouteUpdate(tables=[table])))
    assert isinstance(routes, msg.Routes)
    assert routes.tables[0].shards_of(Incarnation("i")) == [0]


BAD = [
    b"\xff\xff\xff",
    b"",
    pb.SeedMessage(welcome=pb.Welcome(lease_id=7, protocol=1)).SerializeToString(),
    pb.SeedMessage(welcome=pb.Welcome(ttl_ms=5000, protocol=1)).SerializeToString(),
    pb.SeedMessage(welcome=pb.Welcome(lease_id=7, ttl_ms=1, protocol=2)).SerializeToString(),
    pb.SeedMessage(heartbeat_ack=pb.HeartbeatAck(seq=1, ttl_ms=5)).SerializeToString(),
    pb.SeedMessage(
        heartbeat_ack=pb.HeartbeatAck(seq=1, state=pb.LEASE_STATE_RENEWED)
    ).SerializeToString(),
    pb.SeedMessage(
        routes=pb.RouteUpdate(tables=[store_pb2.AllocationTable(type="t", shard_count=2)])
    ).SerializeToString(),
]


@pytest.mark.parametrize("raw", BAD)
def test_what_makes_no_sense_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        from_seed(raw, 0)
