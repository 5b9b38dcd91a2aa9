"""Tables come back from the wire as they were, and contradictions are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.errors import ProtocolError
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.routing import CHUNK, Handoff, Owner, ShardTable
from seedbed.tables import from_proto, to_proto
from seedbed.v1 import store_pb2

UINT64 = st.integers(0, (1 << 64) - 1)


def owners() -> st.SearchStrategy[Owner]:
    names = st.text(max_size=5)
    return st.builds(
        Owner,
        names.map(NodeId),
        names.map(Incarnation),
        names,
        st.integers(0, 65535),
        st.booleans(),
    )


@st.composite
def tables(draw: st.DrawFn) -> ShardTable:
    chunk = draw(st.integers(0, 3))
    size = draw(st.integers(1, 20))
    known = draw(st.lists(owners(), max_size=4))
    shards = st.integers(chunk * CHUNK, chunk * CHUNK + size - 1)
    to = st.text(max_size=5).map(Incarnation)
    some = st.builds(Handoff, to, st.integers(0, (1 << 32) - 1))
    handoffs = draw(st.dictionaries(shards, some, max_size=3))
    indexes = st.lists(st.integers(0, len(known)), min_size=size, max_size=size)
    epochs = st.lists(UINT64.map(Epoch), min_size=size, max_size=size)
    return ShardTable(
        type=draw(st.text(max_size=5)),
        chunk=chunk,
        shard_count=chunk * CHUNK + size,
        generation=Generation(draw(UINT64)),
        owners=tuple(known),
        owner=tuple(draw(indexes)),
        epoch=tuple(draw(epochs)),
        handoffs=handoffs,
        revision=draw(st.integers(0, 1 << 60)),
    )


@given(tables())
def test_a_table_comes_back_from_the_wire(table: ShardTable) -> None:
    wire = to_proto(table).SerializeToString()
    assert from_proto(store_pb2.AllocationTable.FromString(wire), table.revision) == table


@given(tables())
def test_one_table_has_one_form_on_the_wire(table: ShardTable) -> None:
    turned = {shard: table.handoffs[shard] for shard in reversed(list(table.handoffs))}
    other = ShardTable(
        table.type,
        table.chunk,
        table.shard_count,
        table.generation,
        table.owners,
        table.owner,
        table.epoch,
        turned,
    )
    assert to_proto(other).SerializeToString() == to_proto(table).SerializeToString()


def test_a_table_of_1024_shards_is_small() -> None:
    crew = tuple(
        Owner(NodeId(f"worker-{n}"), Incarnation("0" * 32), "10.0.0.1", 4685) for n in range(10)
    )
    now = 1_764_000_000_000
    table = ShardTable(
        "thermostat",
        0,
        CHUNK,
        Generation(now),
        crew,
        tuple(n % 10 + 1 for n in range(CHUNK)),
        tuple(Epoch(now + n) for n in range(CHUNK)),
    )
    assert to_proto(table).ByteSize() < 10_000


def message() -> store_pb2.AllocationTable:
    """A table of one shard."""
    return store_pb2.AllocationTable(
        type="thing", shard_count=1, owners=[store_pb2.ShardOwner()], owner=[1], epoch=[1]
    )


WRONG = {
    "more owners than shards": store_pb2.AllocationTable(owner=[0]),
    "more epochs than shards": store_pb2.AllocationTable(epoch=[1]),
    "an owner that is not there": store_pb2.AllocationTable(owner=[2], epoch=[1], shard_count=2),
    "a chunk behind the last shard": store_pb2.AllocationTable(chunk=1),
    "fewer shards than the count": store_pb2.AllocationTable(shard_count=2),
    "a hand-off of another shard": store_pb2.AllocationTable(handoffs=[store_pb2.Handoff(shard=1)]),
}


def test_the_table_that_the_wrong_ones_are_made_of_is_right() -> None:
    assert from_proto(message()).owner == (1,)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_table_that_contradicts_itself_is_refused(wrong: store_pb2.AllocationTable) -> None:
    table = message()
    table.MergeFrom(wrong)
    with pytest.raises(ProtocolError, match="thing/"):
        from_proto(table)
