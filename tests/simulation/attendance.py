"""What a seed does for the workers whose Register streams end at it: heartbeats and marks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, assert_never

from seedbed.ids import Incarnation, NodeId
from seedbed_seed.core import sessions
from seedbed_seed.core.membership import Worker
from seedbed_seed.core.sessions import Session
from seedbed_worker.core import session_messages as msg
from tests.simulation.calls import TTL_NS
from tests.simulation.kernel import MS
from tests.simulation.keys import MEMBERS, TABLES, worker_of
from tests.simulation.member_records import MemberRecords, Registered
from tests.simulation.store import Entry, Guard
from tests.simulation.store_client import Change

if TYPE_CHECKING:  # a seed attends to its streams
    from tests.simulation.seed import SimSeed
    from tests.simulation.streams import Stream


@dataclass(frozen=True, slots=True)
class Reading:
    """A member's record and the newest revision of any table, at one revision of the store."""

    entry: Entry | None
    newest: int
    revision: int


class Attendance:
    """Of one life of a seed; what the product's shell does, in the same order and so guarded."""

    session_class: type[Session] = Session

    def __init__(self, seed: SimSeed) -> None:
        self._seed = seed
        self._kernel = seed.kernel
        self._client = seed.client
        self._records = MemberRecords(seed)
        self.registered: dict[str, Registered] = {}

    def welcome(
        self, stream: Stream, incarnation: Incarnation, node_id: NodeId, lease: int
    ) -> None:
        """The Hello is in the store."""
        session = self.session_class(incarnation, stream.id, TTL_NS, self._kernel.now_ns)
        registered = Registered(stream, session, node_id, incarnation, lease)
        self.registered[stream.id] = registered
        stream.down.send(msg.Welcome(lease, b"", TTL_NS))
        stream.down.send(msg.Routes(tuple(self._seed.tables().values()), snapshot=True))
        self.apply(registered, sessions.RoutesSent(self._seed.revision))

    def heard(self, registered: Registered, message: msg.ToSeed | None) -> None:
        """The worker said something; None: the stream has ended."""
        match message:
            case msg.Beat(seq, released):
                self.apply(registered, sessions.HeartbeatArrived(seq))
                self._records.note(registered, released)
            case msg.Released(released):
                self._records.note(registered, released)
            case msg.EpochSeen(type_, shard, epoch):
                self._seed.report(type_, shard, epoch)
            case msg.Draining():
                self._records.set_draining(registered)
            case msg.Goodbye():
                self.apply(registered, sessions.GoodbyeArrived())
                self._records.let_go(registered)
            case None:
                self.apply(registered, sessions.StreamEnded())
                self.registered.pop(registered.stream.id, None)
            case _:
                assert_never(message)

    def apply(self, registered: Registered, event: sessions.Event) -> None:
        """Tell the session, and do what it says."""
        for command in registered.session.apply(event, self._kernel.now_ns):
            match command:
                case sessions.Renew(seq):
                    self._client.ask(
                        lambda: self._seed.store.renew(registered.lease, TTL_NS),
                        partial(self._renewed, registered, seq),
                    )
                case sessions.Read(seq):
                    self._client.ask(
                        partial(self._facts, registered.node_id),
                        partial(self._facts_read, registered, seq, self._seed.revision),
                    )
                case sessions.Ack(seq, state, ttl_ns):
                    registered.stream.down.send(msg.Acked(seq, state, ttl_ns))
                case sessions.SetUp():
                    self._records.set_up(registered)
                case sessions.Silent(age_ns):
                    self.give_up(registered, age_ns)
                case _:
                    assert_never(command)
        self._set_timer(registered)

    def send_elsewhere(self, node_id: NodeId) -> None:
        for registered in self.registered.values():
            if registered.node_id == node_id:
                registered.stream.down.send(msg.GoElsewhere())

    # Heartbeats.

    def _set_timer(self, registered: Registered) -> None:
        at_ns = registered.session.wake_at_ns
        if at_ns is None or (registered.wake_at_ns or at_ns + 1) <= at_ns:
            return
        registered.wake_at_ns = at_ns

        def woken() -> None:
            if registered.wake_at_ns == at_ns:
                registered.wake_at_ns = None
                self.apply(registered, sessions.Ticked())

        self._kernel.after(max(MS, at_ns - self._kernel.now_ns), self._seed.process, woken)

    def _renewed(self, registered: Registered, seq: int, ttl_ns: int | None) -> None:
        if ttl_ns is not None:
            self.apply(registered, sessions.RenewalAnswered(seq, ttl_ns))

    def _facts(self, node_id: NodeId) -> Reading:
        store = self._seed.store
        newest = max((entry.mod_revision for entry in store.under(TABLES)), default=0)
        return Reading(store.entries.get(MEMBERS + node_id), newest, store.revision)

    def _facts_read(
        self, registered: Registered, seq: int, known_revision: int, read: Reading | None
    ) -> None:
        if read is None or read.revision < known_revision:
            return  # lost, or of a store that was restored: its revisions say nothing here
        worker = worker_of(read.entry) if read.entry is not None else None
        facts = None
        if worker is not None:
            silent = worker.silent_age_ns is not None
            facts = sessions.RecordFacts(worker.incarnation, worker.stream_id, silent)
        self.apply(registered, sessions.RecordRead(seq, facts, read.newest))

    # Marks.

    def give_up(self, registered: Registered, age_ns: int) -> None:
        """End the stream, mark the record, and look for evidence."""
        self.registered.pop(registered.stream.id, None)
        registered.stream.down.send(None)
        self.mark(registered, age_ns)

    def mark(self, registered: Registered, age_ns: int) -> None:
        self._kernel.log(
            f"{self._seed.name}: {registered.incarnation} silent for {age_ns // MS} ms"
        )

        def change(worker: Worker) -> Worker | None:
            return replace(worker, silent_age_ns=age_ns) if worker.serving else None

        def marked(revision: int | None) -> None:
            worker = self._seed.world.worker(registered.node_id)
            if revision and worker.incarnation != registered.incarnation and not worker.alive:
                key = MEMBERS + registered.node_id
                self._client.write({}, [Guard(key, modified=revision)], lambda _: None, [key])

        stream_id = self.marked_stream(registered)
        self._client.rewrite(
            Change(registered.node_id, registered.incarnation, change, stream_id), marked
        )

    def marked_stream(self, registered: Registered) -> str | None:
        """The record must still name it."""
        return registered.stream.id
