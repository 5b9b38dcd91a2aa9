"""Calls and replies survive the wire; batches keep order and size."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.calls import EntityCall, Failed, Metadata, NotHere, Replied
from seedbed.errors import ProtocolError, Reason
from seedbed.frames import (
    BATCH_BYTES,
    CallOutbox,
    ReplyOutbox,
    call_from_wire,
    call_to_wire,
    parse_calls,
    parse_replies,
    reply_from_wire,
    reply_to_wire,
)
from seedbed.ids import Epoch, Generation
from seedbed.v1 import link_pb2

NOW = 5_000_000_000
numbers = st.integers(min_value=0, max_value=2**64 - 1)
texts = st.text(max_size=20)
names = st.text(min_size=1, max_size=20)
metadata: st.SearchStrategy[Metadata] = st.lists(
    st.tuples(names, st.one_of(st.text(max_size=8), st.binary(max_size=8))), max_size=3
).map(tuple)

calls = st.builds(
    EntityCall,
    method=names,
    type=names,
    key=texts,
    shard=st.integers(0, 2**32 - 1),
    request=st.binary(max_size=100),
    # Whole microseconds ahead, as the wire has them.
    deadline_ns=st.one_of(st.none(), st.integers(1, 10**9).map(lambda us: NOW + us * 1000)),
    epoch=numbers.map(Epoch),
    generation=numbers.map(Generation),
    attempt=st.integers(1, 9),
    request_id=texts,
    caller=texts,
    traceparent=names,
    tracestate=texts,
    metadata=metadata,
    chain=st.lists(texts, max_size=3).map(tuple),
)
outcomes = st.one_of(
    st.builds(
        Replied, st.binary(max_size=50), numbers.map(Epoch), initial=metadata, trailing=metadata
    ),
    st.builds(
        Failed,
        st.integers(0, 16),
        texts,
        st.one_of(st.none(), st.sampled_from(Reason)),
        st.booleans(),
        st.binary(max_size=20),
        st.one_of(st.none(), st.integers(1, 10**6).map(lambda ms: ms / 1000)),
        numbers.map(Epoch),
        metadata,
        metadata,
    ),
    st.builds(NotHere, numbers.map(Generation)),
)


@dataclass
class Sendable:
    call: EntityCall
    id: int
    credit: int = 0
    sent: bool = False


def a_call(request: bytes = b"", deadline_ns: int | None = None) -> EntityCall:
    return EntityCall("/p.S/M", "t", "k", 1, request, deadline_ns)


@given(calls)
def test_a_call_survives_the_wire(call: EntityCall) -> None:
    wire = link_pb2.Call()
    call_to_wire(call, wire, id_=7, now_ns=NOW)
    parsed = link_pb2.Call.FromString(wire.SerializeToString())
    assert call_from_wire(parsed, now_ns=NOW) == call


@given(outcomes)
def test_an_outcome_survives_the_wire(outcome: Replied | Failed | NotHere) -> None:
    wire = link_pb2.Reply(id=7)
    reply_to_wire(outcome, wire)
    assert reply_from_wire(link_pb2.Reply.FromString(wire.SerializeToString())) == outcome


def test_a_call_carries_the_time_left_when_it_is_written() -> None:
    outbox = CallOutbox()
    outbox.put(Sendable(a_call(deadline_ns=NOW + 3_000_000), 1))
    outbox.put(Sendable(a_call(deadline_ns=NOW - 5), 2))
    outbox.put(Sendable(a_call(), 3))
    data = outbox.take(NOW + 1_000_000)
    assert data is not None
    # A deadline that has passed is not the same as none.
    assert [call.timeout_us for call in parse_calls(data).calls] == [2000, 1, 0]


@given(st.lists(st.integers(0, BATCH_BYTES), max_size=20))
def test_batches_keep_the_order_and_hold_little_more_than_their_size(sizes: list[int]) -> None:
    outbox = CallOutbox()
    boarded = [Sendable(a_call(bytes(size)), n) for n, size in enumerate(sizes, 1)]
    for sendable in boarded:
        outbox.put(sendable)
    seen: list[int] = []
    while (data := outbox.take(NOW)) is not None:
        batch = parse_calls(data).calls
        assert sum(len(call.request) for call in batch[:-1]) < BATCH_BYTES
        seen += [call.id for call in batch]
    assert seen == [sendable.id for sendable in boarded]
    assert all(sendable.sent for sendable in boarded)


def test_a_call_that_was_withdrawn_is_left_out() -> None:
    outbox = CallOutbox()
    withdrawn, other = Sendable(a_call(), 1), Sendable(a_call(), 2)
    outbox.put(withdrawn)
    outbox.put(other)
    withdrawn.id = 0
    data = outbox.take(NOW)
    assert data is not None
    assert [call.id for call in parse_calls(data).calls] == [2]
    assert not withdrawn.sent


def test_nothing_waiting_is_no_batch() -> None:
    assert CallOutbox().take(NOW) is None
    assert ReplyOutbox().take() is None


def test_cancels_and_credits_travel_without_calls() -> None:
    outbox = CallOutbox()
    outbox.cancel(4)
    outbox.credit(5, 8)
    data = outbox.take(NOW)
    assert data is not None
    batch = parse_calls(data)
    assert list(batch.cancels) == [4]
    assert [(credit.id, credit.items) for credit in batch.credits] == [(5, 8)]
    assert outbox.take(NOW) is None


def test_replies_and_items_leave_in_their_order() -> None:
    outbox = ReplyOutbox()
    outbox.put_item(1, b"a", Epoch(3))
    outbox.put(2, Replied(b"b", Epoch(3)))
    outbox.put_item(1, b"c", Epoch(3))
    data = outbox.take()
    assert data is not None
    replies = parse_replies(data).replies
    assert [(reply.id, reply.WhichOneof("kind")) for reply in replies] == [
        (1, "item"),
        (2, "response"),
        (1, "item"),
    ]
    assert len(outbox) == 0


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x0a\x7f"])
def test_bytes_that_are_no_batch_are_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_calls(data)
    with pytest.raises(ProtocolError):
        parse_replies(data)


@pytest.mark.parametrize(
    "wire",
    [
        link_pb2.Call(method="/p.S/M", type="t"),
        link_pb2.Call(id=1, type="t"),
        link_pb2.Call(id=1, method="/p.S/M"),
    ],
    ids=["no id", "no method", "no type"],
)
def test_a_call_without_id_method_or_type_is_a_protocol_error(wire: link_pb2.Call) -> None:
    with pytest.raises(ProtocolError):
        call_from_wire(wire, now_ns=NOW)


def test_a_reply_of_no_known_kind_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        reply_from_wire(link_pb2.Reply(id=1))


def test_a_reason_of_a_newer_release_is_left_out_and_the_code_kept() -> None:
    wire = link_pb2.Reply(id=1, status=link_pb2.CallStatus(code=14, message="x", reason="NEWER"))
    assert reply_from_wire(wire) == Failed(14, "x")


def test_a_first_attempt_need_not_be_numbered() -> None:
    wire = link_pb2.Call(id=1, method="/p.S/M", type="t")
    assert call_from_wire(wire, now_ns=NOW).attempt == 1
    assert replace(call_from_wire(wire, now_ns=NOW), from_seed=True) == call_from_wire(
        wire, now_ns=NOW, from_seed=True
    )
