"""One Register stream on a seed: when a heartbeat may be acknowledged, and when it fell silent.

Theory. RENEWED is a promise about the store, so each one is made of four steps in this order:

    heartbeat n arrives ─> lease renewed ─> record and table revisions read ─> tables sent ─> ack n

The renewal begins after the heartbeat arrived, so the lease lives at least a TTL from the time at
which the worker sent it. The read comes after the renewal, so a lease that was ended early, or a
mark by then, is seen. The tables come before the ack, so whoever holds a valid lease knows every
change that is older than the lease.

The ack is given only while the record names this incarnation and this stream and has no mark; any
other stream, once the worker has left it for a newer one, is mute. And a seed that gives a worker
up is bound by it: after `Silent` there is no RENEWED on this stream for ever, so the age that is
written into the mark bounds what the worker may still believe.

Whatever is not answered within TTL/8 is UNKNOWN: the worker must have time to try another seed.

    LISTENING ──silence, or the stream's end──> MUTE      ──goodbye, or lease gone──> MUTE
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, assert_never

from seedbed.errors import ProtocolError
from seedbed.ids import Incarnation
from seedbed.lease_state import LeaseState

# Events.


@dataclass(frozen=True, slots=True)
class HeartbeatArrived:
    """The worker sent heartbeat `seq`."""

    seq: int


@dataclass(frozen=True, slots=True)
class RenewalAnswered:
    """The renewal begun for heartbeat `seq` is done; `ttl_ns` 0: the lease has ended."""

    seq: int
    ttl_ns: int


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What a renewal needs to know of the member's record."""

    incarnation: Incarnation
    stream_id: str
    silent: bool


@dataclass(frozen=True, slots=True)
class RecordRead:
    """One linearizable read, begun after the renewal: the record (None: gone), and the highest
    revision at which any table was written."""

    seq: int
    record: RecordFacts | None
    table_revision: int


@dataclass(frozen=True, slots=True)
class RoutesSent:
    """The watch has delivered, and this stream was sent, every table up to this revision."""

    revision: int


@dataclass(frozen=True, slots=True)
class GoodbyeArrived:
    """The worker is drained and fenced."""


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The stream is over."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """`wake_at_ns` has come."""


Event: TypeAlias = (
    HeartbeatArrived
    | RenewalAnswered
    | RecordRead
    | RoutesSent
    | GoodbyeArrived
    | StreamEnded
    | Ticked
)

# Commands.


@dataclass(frozen=True, slots=True)
class Renew:
    """Begin a renewal of the lease now; answer with `RenewalAnswered`, if at all."""

    seq: int


@dataclass(frozen=True, slots=True)
class Read:
    """Read record and table revisions in one transaction; answer with `RecordRead`, if at all."""

    seq: int


@dataclass(frozen=True, slots=True)
class Ack:
    """Answer heartbeat `seq`."""

    seq: int
    state: LeaseState
    ttl_ns: int


@dataclass(frozen=True, slots=True)
class SetUp:
    """The first renewal: the member is UP (a guarded write)."""


@dataclass(frozen=True, slots=True)
class Silent:
    """Give the member up on this stream: end it, and mark the record if it still names it."""

    age_ns: int


Command: TypeAlias = Renew | Read | Ack | SetUp | Silent


@dataclass(slots=True)
class _Pending:
    """The heartbeat that is being answered."""

    seq: int
    arrived_ns: int
    ttl_ns: int = 0
    table_revision: int | None = None


class Session:
    """One accepted Register stream.

    `now_ns` is the time after the record with this stream's id was written: an older stream may
    have given a RENEWED until then, and the age of a mark must not reach back before it.
    """

    __slots__ = (
        "_heard_ns",
        "_incarnation",
        "_mute",
        "_pending",
        "_renewed_ns",
        "_sent_revision",
        "_seq",
        "_stream_id",
        "_ttl_ns",
        "_up",
    )

    def __init__(self, incarnation: Incarnation, stream_id: str, ttl_ns: int, now_ns: int) -> None:
        self._incarnation = incarnation
        self._stream_id = stream_id
        self._ttl_ns = ttl_ns
        self._heard_ns = now_ns
        self._renewed_ns = now_ns
        self._sent_revision = 0
        self._seq = 0
        self._pending: _Pending | None = None
        self._up = False
        self._mute = False

    def apply(self, event: Event, now_ns: int) -> list[Command]:
        """What to do about an event, in order. Late and superseded answers are ignored."""
        commands = self._late(now_ns)
        match event:
            case HeartbeatArrived(seq):
                commands += self._heartbeat(seq, now_ns)
            case RenewalAnswered(seq, ttl_ns):
                commands += self._renewal(seq, ttl_ns)
            case RecordRead(seq, record, table_revision):
                commands += self._record(seq, record, table_revision)
            case RoutesSent(revision):
                self._sent_revision = max(self._sent_revision, revision)
                commands += self._acknowledge()
            case GoodbyeArrived():
                self._fall_mute()
            case StreamEnded():
                commands += self._give_up(now_ns)
            case Ticked():
                pass
            case _:
                assert_never(event)
        return commands

    @property
    def mute(self) -> bool:
        """No RENEWED comes on this stream any more."""
        return self._mute

    @property
    def wake_at_ns(self) -> int | None:
        """When to send `Ticked`; None: never."""
        if self._mute:
            return None
        if self._pending is not None:
            return min(self._answer_by_ns(self._pending), self._silent_at_ns())
        return self._silent_at_ns()

    def _heartbeat(self, seq: int, now_ns: int) -> list[Command]:
        if seq <= self._seq:
            raise ProtocolError(f"heartbeat {seq} after {self._seq}")
        if self._mute:
            return []
        self._seq = seq
        self._heard_ns = now_ns
        commands = self._unknown()
        self._pending = _Pending(seq, now_ns)
        return [*commands, Renew(seq)]

    def _renewal(self, seq: int, ttl_ns: int) -> list[Command]:
        pending = self._pending
        if pending is None or pending.seq != seq:
            return []
        if ttl_ns <= 0:
            return self._lost(seq)
        pending.ttl_ns = ttl_ns
        return [Read(seq)]

    def _record(self, seq: int, record: RecordFacts | None, table_revision: int) -> list[Command]:
        pending = self._pending
        if pending is None or pending.seq != seq or not pending.ttl_ns:
            return []
        if record is None or record.incarnation != self._incarnation:
            return self._lost(seq)
        if record.stream_id != self._stream_id or record.silent:
            commands = self._unknown()
            self._fall_mute()
            return commands
        pending.table_revision = table_revision
        return self._acknowledge()

    def _acknowledge(self) -> list[Command]:
        pending = self._pending
        if pending is None or pending.table_revision is None:
            return []
        if self._sent_revision < pending.table_revision:
            return []
        self._pending = None
        self._renewed_ns = pending.arrived_ns
        first, self._up = not self._up, True
        ack = Ack(pending.seq, LeaseState.RENEWED, pending.ttl_ns)
        return [ack, SetUp()] if first else [ack]

    def _lost(self, seq: int) -> list[Command]:
        self._fall_mute()
        return [Ack(seq, LeaseState.LOST, 0)]

    def _unknown(self) -> list[Command]:
        pending, self._pending = self._pending, None
        return [Ack(pending.seq, LeaseState.UNKNOWN, 0)] if pending is not None else []

    def _give_up(self, now_ns: int) -> list[Command]:
        if self._mute:
            return []
        self._fall_mute()
        return [Silent(now_ns - self._renewed_ns)]

    def _late(self, now_ns: int) -> list[Command]:
        """What time alone has decided, before the event that comes now."""
        if self._mute:
            return []
        if now_ns >= self._silent_at_ns():
            return self._give_up(now_ns)
        if self._pending is not None and now_ns >= self._answer_by_ns(self._pending):
            return self._unknown()
        return []

    def _fall_mute(self) -> None:
        self._mute = True
        self._pending = None

    def _answer_by_ns(self, pending: _Pending) -> int:
        return pending.arrived_ns + self._ttl_ns // 8

    def _silent_at_ns(self) -> int:
        """Two heartbeats missed, and a little more for the way."""
        return self._heard_ns + self._ttl_ns // 2 + self._ttl_ns // 16
