"""What is broken on purpose in leases, ownership, and a seed's care for its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from seedbed.ids import Incarnation
from seedbed.lease_state import LeaseState
from seedbed.routing import ShardTable
from seedbed_seed.core import sessions
from seedbed_seed.core.sessions import Session
from seedbed_worker.core import session_events as ev
from seedbed_worker.core import session_messages as msg
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.region import Region
from seedbed_worker.core.session import SessionCore, margin_ns
from tests.simulation.attendance import Attendance
from tests.simulation.calls import TTL_NS
from tests.simulation.seed import SimSeed
from tests.simulation.store import Guard, Value
from tests.simulation.store_client import StoreClient
from tests.simulation.turns import Turn, Turns
from tests.simulation.worker import SimWorker

if TYPE_CHECKING:
    from tests.simulation.member_records import Registered


# The lease.


class _OwnLease(SessionCore):
    """Puts a lease of another kind in the place of each new one."""

    lease_class: type[Lease] = Lease

    def handle(self, event: ev.Event, now_ns: int) -> list[ev.Command]:
        before = self.lease
        commands = super().handle(event, now_ns)
        if self.lease is not None and self.lease is not before:
            sent = [
                c.message.seq
                for c in commands
                if isinstance(c, ev.Send) and isinstance(c.message, msg.Beat)
            ]
            ttl_ns = self.lease.ttl_ns
            self.lease = self.lease_class(self.lease.incarnation, ttl_ns, margin_ns(ttl_ns))
            for seq in sent:
                self.lease.sent(seq, now_ns)
        return commands


class _EndlessLease(Lease):
    """Valid until somebody says that it is lost."""

    def valid(self, now_ns: int) -> bool:
        return self.valid_until_ns > 0 and not self.fenced

    def lapsed(self, now_ns: int) -> bool:
        return self.fenced


class _NoSelfFence(_OwnLease):
    lease_class = _EndlessLease

    def _expire(self, now: int) -> None:
        pass


class NoSelfFence(SimWorker):
    session_class = _NoSelfFence


class _RevivedLease(Lease):
    """A renewal that comes late makes it valid again."""

    def lapsed(self, now_ns: int) -> bool:
        return self.fenced


class _LateRenewalRevives(_OwnLease):
    """Past its time the worker drops its memory, and keeps its incarnation."""

    lease_class = _RevivedLease
    dropped_for_ns = 0

    def _expire(self, now: int) -> None:
        lease = self.lease
        until_ns = lease.valid_until_ns if lease is not None else 0
        if lease is not None and 0 < until_ns <= now and until_ns != self.dropped_for_ns:
            self.dropped_for_ns = until_ns
            self._out.append(ev.TellFenced(lease.incarnation, "lapsed"))


class LateRenewalRevives(SimWorker):
    session_class = _LateRenewalRevives


class _NoCheckBeforeReply(Turns):
    def may_reply(self, turn: Turn) -> bool:
        return True


class NoCheckBeforeReply(SimWorker):
    turns_class = _NoCheckBeforeReply


# Owners.


class _OwnedByNode(Region):
    """A table that names the node names whoever runs there."""

    def _renamed(self, tables: Iterable[ShardTable]) -> list[ShardTable]:
        me = self.view.incarnation
        return [
            replace(
                table,
                owners=tuple(
                    replace(owner, incarnation=me)
                    if me is not None and _node(owner.incarnation) == _node(me)
                    else owner
                    for owner in table.owners
                ),
            )
            for table in tables
        ]

    def begin(self, incarnation: Incarnation) -> None:
        tables = self.view.tables.values()
        super().begin(incarnation)
        again = Region()
        again.begin(incarnation)
        again.observe(self._renamed(tables), 0)
        self.view = again.view

    def observe(self, tables: Iterable[ShardTable], now_ns: int) -> list[ShardTable]:
        return super().observe(self._renamed(tables), now_ns)


def _node(incarnation: Incarnation) -> str:
    return incarnation.partition(".")[0]


class OwnedByNode(SimWorker):
    region_class = _OwnedByNode


class _UnguardedClient(StoreClient):
    def write(
        self,
        puts: Mapping[str, tuple[Value, int]],
        guards: Sequence[Guard],
        then: Callable[[int | None], None],
        deletes: Sequence[str] = (),
    ) -> None:
        tables = any(isinstance(value, ShardTable) for value, _ in puts.values())
        super().write(puts, () if tables else guards, then, deletes)


class NoLeaderGuard(SimSeed):
    client_class = _UnguardedClient


# Acknowledgements and marks.


class _AckFirst(Session):
    def apply(self, event: sessions.Event, now_ns: int) -> list[sessions.Command]:
        commands = super().apply(event, now_ns)
        out: list[sessions.Command] = []
        for command in commands:
            match command:
                case sessions.Renew(seq):
                    ack = sessions.Ack(seq, LeaseState.RENEWED, TTL_NS)
                    out += [ack, command]
                case sessions.Ack():
                    pass
                case _:
                    out.append(command)
        return out


class _AckBeforeRenewal(Attendance):
    session_class = _AckFirst


class AckBeforeRenewal(SimSeed):
    attendance_class = _AckBeforeRenewal


class _TablesLater(Session):
    def __init__(self, incarnation: Incarnation, stream_id: str, ttl_ns: int, now_ns: int) -> None:
        super().__init__(incarnation, stream_id, ttl_ns, now_ns)
        self._sent_revision = 1 << 62


class _AckWithoutTables(Attendance):
    session_class = _TablesLater


class AckWithoutTables(SimSeed):
    attendance_class = _AckWithoutTables


class _AcksMarked(Session):
    """Gives the member up, and goes on as if nothing were."""

    def _fall_mute(self) -> None:
        self._pending = None

    def _give_up(self, now_ns: int) -> list[sessions.Command]:
        commands = super()._give_up(now_ns)
        self._heard_ns = now_ns
        return commands

    def _record(
        self, seq: int, record: sessions.RecordFacts | None, table_revision: int
    ) -> list[sessions.Command]:
        if record is not None:
            record = replace(record, silent=False)
        return super()._record(seq, record, table_revision)


class _AckOfMarked(Attendance):
    session_class = _AcksMarked

    def give_up(self, registered: Registered, age_ns: int) -> None:
        self.mark(registered, age_ns)


class AckOfMarked(SimSeed):
    attendance_class = _AckOfMarked


class _MarkByLeftStream(Attendance):
    def marked_stream(self, registered: Registered) -> str | None:
        return None


class MarkByLeftStream(SimSeed):
    attendance_class = _MarkByLeftStream


class _AcksLeftStream(Session):
    def _record(
        self, seq: int, record: sessions.RecordFacts | None, table_revision: int
    ) -> list[sessions.Command]:
        if record is not None:
            record = replace(record, stream_id=self._stream_id)
        return super()._record(seq, record, table_revision)


class _AckByLeftStream(Attendance):
    session_class = _AcksLeftStream


class AckByLeftStream(SimSeed):
    attendance_class = _AckByLeftStream
