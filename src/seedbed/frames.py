"""The Link's pure rules: calls and replies to the wire and back, and what goes into one batch.

Batching is natural: whatever has collected while the last batch was being written goes out
together, up to `BATCH_BYTES`. Nothing here does I/O; both ends of a Link use it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from seedbed.calls import EntityCall, Failed, Metadata, NotHere, Outcome, Replied
from seedbed.errors import ProtocolError, Reason
from seedbed.ids import Epoch, Generation
from seedbed.v1 import link_pb2

EXCHANGE: Final = "/seedbed.v1.Link/Exchange"
IDENTIFY: Final = "/seedbed.v1.Link/Identify"

ROLE_KEY: Final = "seedbed-role"
"""Metadata of an Exchange stream: the router's role, `seed` for a seed's."""

BATCH_BYTES: Final = 64 * 1024
"""A batch is closed when it has this size; a larger request takes a stream of its own."""

STREAM_CREDIT: Final = 16
"""Items of a stream that may be on the way, or wait for its reader."""

_OVERHEAD: Final = 160
"""What a call or reply costs in a batch beside its message, about."""

_REASONS: Final = {reason.value: reason for reason in Reason}


class Carried(Protocol):
    """A call (or stream) that a Link carries. `id` changes with every attempt."""

    id: int
    call: EntityCall
    credit: int
    sent: bool


class CallOutbox:
    """Calls, cancels and credits that wait to be written, in order."""

    __slots__ = ("_calls", "_cancels", "_credits")

    def __init__(self) -> None:
        self._calls: deque[tuple[int, Carried]] = deque()
        self._cancels: list[int] = []
        self._credits: list[tuple[int, int]] = []

    def put(self, carried: Carried) -> None:
        self._calls.append((carried.id, carried))

    def __len__(self) -> int:
        return len(self._calls)

    def cancel(self, id_: int) -> None:
        self._cancels.append(id_)

    def credit(self, id_: int, items: int) -> None:
        self._credits.append((id_, items))

    def clear(self) -> None:
        """Forget everything: the stream that it was meant for is gone."""
        self._calls.clear()
        self._cancels.clear()
        self._credits.clear()

    def take(self, now_ns: int) -> bytes | None:
        """The next batch (its calls are now `sent`); None if there is nothing to write.

        A call that has been withdrawn (its `id` is another one by now) is left out.
        """
        batch = link_pb2.CallBatch()
        size = 0
        calls = self._calls
        while calls and size < BATCH_BYTES:
            id_, carried = calls.popleft()
            if carried.id != id_:
                continue
            carried.sent = True
            call = carried.call
            call_to_wire(call, batch.calls.add(), id_=id_, now_ns=now_ns, credit=carried.credit)
            size += len(call.request) + _OVERHEAD
        if self._cancels:
            batch.cancels.extend(self._cancels)
            self._cancels.clear()
        elif not size and not self._credits:
            return None
        for id_, items in self._credits:
            batch.credits.add(id=id_, items=items)
        self._credits.clear()
        return batch.SerializeToString()


class ReplyOutbox:
    """Replies and items that wait to be written, in order: the same, for the serving end."""

    __slots__ = ("_replies",)

    def __init__(self) -> None:
        self._replies: deque[tuple[int, Replied | Failed | NotHere | bytes, Epoch]] = deque()

    def __len__(self) -> int:
        return len(self._replies)

    def put(self, id_: int, outcome: Replied | Failed | NotHere) -> None:
        """The answer that ends call `id_`."""
        self._replies.append((id_, outcome, Epoch(0)))

    def put_item(self, id_: int, item: bytes, epoch: Epoch) -> None:
        """One item of a stream."""
        self._replies.append((id_, item, epoch))

    def take(self) -> bytes | None:
        """The next batch; None if there is nothing to write."""
        replies = self._replies
        if not replies:
            return None
        batch = link_pb2.ReplyBatch()
        size = 0
        while replies and size < BATCH_BYTES:
            id_, outcome, epoch = replies.popleft()
            wire = batch.replies.add()
            wire.id = id_
            if isinstance(outcome, bytes):
                wire.item = outcome
                wire.epoch = epoch
                size += len(outcome)
            else:
                size += reply_to_wire(outcome, wire)
            size += _OVERHEAD
        return batch.SerializeToString()


def parse_calls(data: bytes) -> link_pb2.CallBatch:
    """A batch of calls; raises `ProtocolError` for bytes that are none."""
    try:
        return link_pb2.CallBatch.FromString(data)
    except DecodeError as error:
        raise ProtocolError("what came on the Link is no CallBatch") from error


def parse_replies(data: bytes) -> link_pb2.ReplyBatch:
    """A batch of replies; raises `ProtocolError` for bytes that are none."""
    try:
        return link_pb2.ReplyBatch.FromString(data)
    except DecodeError as error:
        raise ProtocolError("what came on the Link is no ReplyBatch") from error


def call_to_wire(
    call: EntityCall, wire: link_pb2.Call, *, id_: int, now_ns: int, credit: int = 0
) -> None:
    """Fill in a Call. A deadline becomes the time left; one that has passed the least there is."""
    wire.id = id_
    wire.method = call.method
    wire.type = call.type
    wire.key = call.key
    wire.shard = call.shard
    wire.epoch = call.epoch
    wire.generation = call.generation
    if call.deadline_ns is not None:
        wire.timeout_us = max(1, (call.deadline_ns - now_ns) // 1000)
    wire.request = call.request
    wire.request_id = call.request_id
    wire.attempt = call.attempt
    if credit:
        wire.credit = credit
    if call.traceparent:
        wire.traceparent = call.traceparent
        wire.tracestate = call.tracestate
    if call.caller:
        wire.caller = call.caller
    if call.metadata:
        metadata_to_wire(call.metadata, wire.metadata)
    if call.chain:
        wire.chain.extend(call.chain)


def call_from_wire(wire: link_pb2.Call, *, now_ns: int, from_seed: bool = False) -> EntityCall:
    """The call as the host wants it, its deadline on this process's clock.

    Raises `ProtocolError` for one without id, method or type.
    """
    if not wire.id or not wire.method or not wire.type:
        raise ProtocolError("a Call on the Link has no id, no method or no type")
    timeout_us = wire.timeout_us
    metadata, chain = wire.metadata, wire.chain
    return EntityCall(
        wire.method,
        wire.type,
        wire.key,
        wire.shard,
        wire.request,
        now_ns + timeout_us * 1000 if timeout_us else None,
        Epoch(wire.epoch),
        Generation(wire.generation),
        wire.attempt or 1,
        wire.request_id,
        wire.caller,
        wire.traceparent,
        wire.tracestate,
        metadata_from_wire(metadata) if metadata else (),
        tuple(chain) if chain else (),
        from_seed,
    )


def reply_to_wire(outcome: Replied | Failed | NotHere, wire: link_pb2.Reply) -> int:
    """Fill in all of a Reply but its id; returns its size without overhead, about."""
    if isinstance(outcome, NotHere):
        wire.not_owner.generation = outcome.generation
        return 0
    wire.epoch = outcome.epoch
    if outcome.initial:
        metadata_to_wire(outcome.initial, wire.initial_metadata)
    if outcome.trailing:
        metadata_to_wire(outcome.trailing, wire.trailing_metadata)
    if isinstance(outcome, Replied):
        wire.response = outcome.response
        return len(outcome.response)
    status = wire.status
    status.code = outcome.code
    status.message = outcome.message
    status.details = outcome.details
    status.started = outcome.started
    if outcome.reason is not None:
        status.reason = outcome.reason.value
    if outcome.retry_after_s is not None:
        status.retry_after_ms = max(1, round(outcome.retry_after_s * 1000))
    return len(outcome.message) + len(outcome.details)


def reply_from_wire(wire: link_pb2.Reply) -> Outcome | bytes:
    """The outcome in a Reply, or the bytes of a stream's item.

    Raises `ProtocolError` for a kind that is not known. The good end of a stream is a `Failed`
    with code 0.
    """
    kind = wire.WhichOneof("kind")
    if kind == "response":
        initial, trailing = wire.initial_metadata, wire.trailing_metadata
        return Replied(
            wire.response,
            Epoch(wire.epoch),
            metadata_from_wire(initial) if initial else (),
            metadata_from_wire(trailing) if trailing else (),
        )
    if kind == "item":
        return wire.item
    if kind == "not_owner":
        return NotHere(Generation(wire.not_owner.generation))
    if kind is None:
        raise ProtocolError("a Reply on the Link is of no known kind")
    status = wire.status
    return Failed(
        status.code,
        status.message,
        _REASONS.get(status.reason),
        status.started,
        status.details,
        status.retry_after_ms / 1000 if status.retry_after_ms else None,
        Epoch(wire.epoch),
        metadata_from_wire(wire.initial_metadata),
        metadata_from_wire(wire.trailing_metadata),
    )


class _MetadataList(Protocol):
    def add(self) -> link_pb2.Metadata: ...


def metadata_to_wire(metadata: Metadata, into: _MetadataList) -> None:
    """Append metadata to a repeated field."""
    for key, value in metadata:
        entry = into.add()
        entry.key = key
        if isinstance(value, str):
            entry.text = value
        else:
            entry.binary = value


def metadata_from_wire(wire: Iterable[link_pb2.Metadata]) -> Metadata:
    """Metadata from a repeated field."""
    return tuple((m.key, m.binary if m.HasField("binary") else m.text) for m in wire)
