"""A simulated seed: the real coordinator and sessions, round a small registration and driver.

What the shell does by itself is what `registration` and `driver` do in the product, in
the same order and with the same guards; each request to the store is late or lost by its own luck.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar, assert_never

from seedbed.ids import Incarnation, NodeId
from seedbed.routing import ShardTable
from seedbed_seed.core import coordinator as core
from seedbed_seed.core import decisions, sessions
from seedbed_seed.core.membership import Status, Worker
from seedbed_seed.core.sessions import Session
from seedbed_worker.core import session_events as ev
from tests.simulation.calls import TTL_NS
from tests.simulation.candidacy import Candidacy
from tests.simulation.kernel import MS, SECOND, Channel, Process, Violation
from tests.simulation.keys import MEMBERS, ROLE, TABLES, table_key, worker_of
from tests.simulation.moves import Moves
from tests.simulation.router import SimRouter
from tests.simulation.store import Entry, Guard, Update, Value

if TYPE_CHECKING:  # seed, worker and world know one another
    from tests.simulation.worker import Stream
    from tests.simulation.world import World

T = TypeVar("T")


@dataclass(slots=True)
class Registered:
    """A Register stream whose Hello was accepted."""

    stream: Stream
    session: Session
    node_id: NodeId
    incarnation: Incarnation
    lease: int
    wake_at_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """A member's record and the newest revision of any table, at one revision of the store."""

    entry: Entry | None
    newest: int
    revision: int


class SimSeed:
    session_class: type[Session] = Session
    coordinator_class: type[core.Coordinator] = core.Coordinator

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.kernel = world.kernel
        self.store = world.store
        self.name = f"seed-{index}"
        self.process = Process(self.name)
        self._skew_ms = self.kernel.between(-3000, 3000)
        self._watch: Channel[Update] | None = None

    # Its life.

    def start(self) -> None:
        self.process.begin()
        self.kernel.log(f"{self.name}: starts")
        self.coordinator = self.coordinator_class(
            decisions.CoordinatorSettings(ttl_ns=TTL_NS, evidence=self.world.evidence)
        )
        self.router = SimRouter(self.world, self.process)
        self.revision = 0
        self.leading = False
        self.deciding = False
        self.moves = Moves(self)
        self.store_life = 0
        self._entries: dict[str, Entry] = {}
        self._registered: dict[str, Registered] = {}
        self._candidacy = Candidacy(self)
        self._term = 0
        self._wake_at_ns: int | None = None
        self._persists: list[int] = []
        self._watch = Channel(
            self.kernel, "store watch", self.process, self.name, self._observe, (MS, 30 * MS)
        )
        self.store.watch(self._watch)
        self._candidacy.stand()

    def crash(self) -> None:
        if self.process.alive and self._watch is not None:
            self.kernel.log(f"{self.name}: crashes")
            self.process.end()
            self.store.unwatch(self._watch)
            for registered in self._registered.values():
                registered.stream.down.send(None)
            for call in self.router.calls:
                self.world.referee.end(call, "its seed died")

    def pause(self, duration_ns: int) -> None:
        self.kernel.log(f"{self.name}: stands still for {duration_ns // MS} ms")
        self.process.paused_until_ns = self.kernel.now_ns + duration_ns

    # The store, through a network.

    def ask(self, run: Callable[[], T], then: Callable[[T | None], None]) -> None:
        """Carry out `run` at the store and give its result, or None: lost, or not in a second.

        A request without an answer may still be carried out, and later; not by another store.
        """
        answered: list[bool] = []
        life = self.store.life

        def finish(result: T | None) -> None:
            if not answered:
                answered.append(True)
                then(result)

        def execute() -> None:
            if held_ns := self.kernel.held_ns(self.name, "store"):
                if self.kernel.random.random() < 0.5:
                    self.kernel.after(held_ns, None, execute)
                return
            if life != self.store.life:
                return
            result = run()
            back_ns = self.kernel.between(MS, 10 * MS) + self.kernel.held_ns("store", self.name)
            self.kernel.after(back_ns, self.process, lambda: finish(result))

        self.kernel.after(self.kernel.between(MS, 10 * MS), None, execute)
        self.kernel.after(SECOND, self.process, lambda: finish(None))

    def write(
        self,
        puts: Mapping[str, tuple[Value, int]],
        guards: Sequence[Guard],
        then: Callable[[int | None], None],
        deletes: Sequence[str] = (),
    ) -> None:
        def run() -> int:
            # Guards may hold again in a backup: assumed is that who writes a table has noticed.
            if self.store_life != self.store.life and _has_table(puts):
                return 0
            return self.store.write(puts, guards, deletes)

        self.ask(run, then)

    # The one watch.

    def _observe(self, update: Update) -> None:
        changes = dict(update.entries)
        self.store_life = update.life
        if update.snapshot:
            self._entries = {key: entry for key, entry in changes.items() if entry is not None}
            self._apply(
                decisions.Synced(
                    tuple(w for e in self._entries.values() if (w := worker_of(e))),
                    tuple(self.tables().values()),
                    self.world.contracts,
                    restored=update.restored,
                )
            )
        else:
            for key, entry in changes.items():
                self._take(key, entry)
        tables = [e.value for e in changes.values() if e and isinstance(e.value, ShardTable)]
        self.moves.note(tables)
        self.revision = update.revision
        self.router.table.apply(update.revision, tables, snapshot=False, restored=update.restored)
        if update.restored:
            self._begin_anew()
        for registered in list(self._registered.values()):
            if tables:
                registered.stream.down.send(ev.Routes(tuple(tables)))
            self._session(registered, sessions.RoutesSent(update.revision))
        if self._candidacy.leads(self._entries) != self.leading:
            self.leading = not self.leading
            self.kernel.log(f"{self.name}: {'leads' if self.leading else 'leads no more'}")
            self._apply(decisions.Elected() if self.leading else decisions.Deposed())
        self._decide()
        self.router.changed(self.coordinator.unreachable())

    def _take(self, key: str, entry: Entry | None) -> None:
        before = self._entries.pop(key, None)
        if entry is not None:
            self._entries[key] = entry
            if (worker := worker_of(entry)) is not None:
                self._apply(decisions.WorkerSeen(worker))
            elif isinstance(entry.value, ShardTable):
                self._apply(decisions.TableSeen(entry.value))
        elif before is not None and (worker := worker_of(before)) is not None:
            self._apply(decisions.WorkerGone(worker.node_id, worker.incarnation))

    def _begin_anew(self) -> None:
        """Revisions begin anew: what was sent by the old ones proves nothing, nor does a term."""
        self.kernel.log(f"{self.name}: sees a restored store")
        for registered in list(self._registered.values()):
            self._session(registered, sessions.StreamEnded())
        if self.leading:
            self.leading = False
            self._apply(decisions.Deposed())
        self._term += 1
        self.deciding = False
        self._candidacy.stand()

    def tables(self) -> dict[tuple[str, int], ShardTable]:
        tables = [e.value for e in self._entries.values() if isinstance(e.value, ShardTable)]
        return {(table.type, table.chunk): table for table in tables}

    def hosts(self, type_: str) -> list[Worker]:
        workers = (worker_of(entry) for entry in self._entries.values())
        return [w for w in workers if w is not None and w.takes(type_, ROLE)]

    def wall_ms(self) -> int:
        return self.kernel.now_ns // MS + self._skew_ms

    def _apply(self, event: decisions.Event) -> None:
        self.coordinator.apply(event, self.kernel.now_ns)

    # The driver of the coordinator.

    def _decide(self) -> None:
        now_ns = self.kernel.now_ns
        decision = self.coordinator.decide(now_ns, self.wall_ms())
        if decision.persist is not None:
            if self.deciding:
                raise Violation(f"{self.name}: a second Persist while one is under way")
            self.deciding = True
            self._count_persist()
            self._persist(decision.persist)
        elif decision.wake_at_ns is not None:
            if decision.wake_at_ns <= now_ns:
                raise Violation(f"{self.name}: the coordinator never sleeps")
            if self._wake_at_ns is None or decision.wake_at_ns < self._wake_at_ns:
                self._wake_at_ns = decision.wake_at_ns
                wake = partial(self._woken, decision.wake_at_ns)
                self.kernel.after(decision.wake_at_ns - now_ns, self.process, wake)

    def _woken(self, at_ns: int) -> None:
        if self._wake_at_ns == at_ns:
            self._wake_at_ns = None
            self._decide()

    def _persist(self, persist: decisions.Persist) -> None:
        guards = [
            self._candidacy.guard(self._entries),
            *(Guard(table_key(t.type, t.chunk), modified=t.revision) for t in persist.tables),
            *(Guard(MEMBERS + node, create=at, equal=False) for node, at in persist.gone),
        ]
        generations = {table.generation for table in persist.tables}
        self.kernel.log(f"{self.name}: persists generations {sorted(generations)}")

        term = self._term

        def written(revision: int | None) -> None:
            if term != self._term:
                return
            self.deciding = False
            self._apply(decisions.Persisted(revision) if revision else decisions.PersistFailed())
            self._decide()

        self.write({table_key(t.type, t.chunk): (t, 0) for t in persist.tables}, guards, written)

    def _count_persist(self) -> None:
        now_ns = self.kernel.now_ns
        self._persists = [at for at in self._persists if at > now_ns - SECOND] + [now_ns]
        if len(self._persists) > 30:
            raise Violation(f"{self.name}: a hot loop of writes")

    def write_table(self, table: ShardTable) -> None:
        key = table_key(table.type, table.chunk)
        guards = [self._candidacy.guard(self._entries), Guard(key, modified=table.revision)]
        self.write({key: (table, 0)}, guards, lambda _: None)

    # Register streams.

    def heard(self, stream: Stream, message: ev.Hello | ev.ToSeed | None) -> None:
        registered = self._registered.get(stream.id)
        match message:
            case ev.Hello():
                self._join(stream, message)
            case ev.Beat(seq):
                if registered is not None:
                    self._session(registered, sessions.HeartbeatArrived(seq))
            case None:
                if registered is not None:
                    self._session(registered, sessions.StreamEnded())
                    self._registered.pop(stream.id, None)
            case ev.EpochSeen(type_, shard, epoch):
                self._apply(decisions.EpochReported(type_, shard, epoch))
                self._decide()
            case ev.Draining() | ev.Goodbye():
                pass
            case _:
                assert_never(message)

    def _join(self, stream: Stream, hello: ev.Hello) -> None:
        key = MEMBERS + stream.worker.node_id

        def read(entries: list[Entry] | None) -> None:
            if entries is None:
                stream.down.send(None)
            elif hello.resume is not None:
                self._resume(stream, hello, next(iter(entries), None))
            else:
                self._enter(stream, hello, next(iter(entries), None))

        self.ask(lambda: self.store.under(key), read)

    def _resume(self, stream: Stream, hello: ev.Hello, entry: Entry | None) -> None:
        worker = worker_of(entry) if entry is not None else None
        if entry is None or worker is None or worker.incarnation != hello.incarnation:
            stream.down.send(ev.Refused("FENCED", "gone"))
            return
        key = MEMBERS + worker.node_id
        record = replace(worker, stream_id=hello.stream_id, silent_age_ns=None)

        def written(revision: int | None) -> None:
            if revision:
                self._welcome(stream, hello.incarnation, worker.node_id, entry.lease)
            else:
                stream.down.send(None)

        guards = [Guard(key, modified=entry.mod_revision)]
        self.write({key: (record, entry.lease)}, guards, written)

    def _enter(self, stream: Stream, hello: ev.Hello, entry: Entry | None) -> None:
        """Every worker has a fixed address, so a newcomer there proves that the old one is gone."""
        node_id = stream.worker.node_id
        old = worker_of(entry) if entry is not None else None
        record = Worker(
            node_id=node_id,
            incarnation=hello.incarnation,
            host=node_id,
            port=stream.worker.port,
            ttl_ns=TTL_NS,
            roles=frozenset({ROLE}),
            types=self.world.types,
            stream_id=hello.stream_id,
            replaced=old.incarnation if old is not None else "",
        )
        key = MEMBERS + node_id

        def create() -> int:
            if entry is not None:
                self.store.revoke(entry.lease)
            lease = self.store.grant(TTL_NS)
            made = self.store.write({key: (record, lease)}, [Guard(key, create=0)])
            return lease if made else 0

        def created(lease: int | None) -> None:
            if lease:
                self._welcome(stream, hello.incarnation, node_id, lease)
            else:
                stream.down.send(None)

        self.ask(create, created)

    def _welcome(
        self, stream: Stream, incarnation: Incarnation, node_id: NodeId, lease: int
    ) -> None:
        session = self.session_class(incarnation, stream.id, TTL_NS, self.kernel.now_ns)
        registered = Registered(stream, session, node_id, incarnation, lease)
        self._registered[stream.id] = registered
        stream.down.send(ev.Welcome(lease, b"", TTL_NS))
        stream.down.send(ev.Routes(tuple(self.tables().values()), snapshot=True))
        self._session(registered, sessions.RoutesSent(self.revision))

    def _session(self, registered: Registered, event: sessions.Event) -> None:
        session = registered.session
        for command in session.apply(event, self.kernel.now_ns):
            match command:
                case sessions.Renew(seq):
                    self.ask(
                        lambda: self.store.renew(registered.lease, TTL_NS),
                        partial(self._renewed, registered, seq),
                    )
                case sessions.Read(seq):
                    self.ask(
                        partial(self._facts, registered.node_id),
                        partial(self._facts_read, registered, seq, self.revision),
                    )
                case sessions.Ack(seq, state, ttl_ns):
                    registered.stream.down.send(ev.Acked(seq, ev.LeaseState(state.value), ttl_ns))
                case sessions.SetUp():
                    self._rewrite(registered, lambda w: replace(w, status=Status.UP))
                case sessions.Silent(age_ns):
                    self.give_up(registered, age_ns)
                case _:
                    assert_never(command)
        self._set_session_timer(registered)

    def _set_session_timer(self, registered: Registered) -> None:
        at_ns = registered.session.wake_at_ns
        if at_ns is None or (registered.wake_at_ns or at_ns + 1) <= at_ns:
            return
        registered.wake_at_ns = at_ns

        def woken() -> None:
            if registered.wake_at_ns == at_ns:
                registered.wake_at_ns = None
                self._session(registered, sessions.Ticked())

        self.kernel.after(max(MS, at_ns - self.kernel.now_ns), self.process, woken)

    def _renewed(self, registered: Registered, seq: int, ttl_ns: int | None) -> None:
        if ttl_ns is not None:
            self._session(registered, sessions.RenewalAnswered(seq, ttl_ns))

    def _facts(self, node_id: NodeId) -> Reading:
        tables = self.store.under(TABLES)
        newest = max((entry.mod_revision for entry in tables), default=0)
        return Reading(self.store.entries.get(MEMBERS + node_id), newest, self.store.revision)

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
        self._session(registered, sessions.RecordRead(seq, facts, read.newest))

    def give_up(self, registered: Registered, age_ns: int) -> None:
        """End the stream, mark the record, and look for evidence."""
        self._registered.pop(registered.stream.id, None)
        registered.stream.down.send(None)
        self.mark(registered, age_ns)

    def mark(self, registered: Registered, age_ns: int) -> None:
        self.kernel.log(f"{self.name}: {registered.incarnation} silent for {age_ns // MS} ms")

        def marked(revision: int | None) -> None:
            worker = self.world.worker(registered.node_id)
            if revision and worker.incarnation != registered.incarnation and not worker.alive:
                key = MEMBERS + registered.node_id
                self.write({}, [Guard(key, modified=revision)], lambda _: None, [key])

        self._rewrite(
            registered,
            lambda worker: replace(worker, silent_age_ns=age_ns),
            marked,
            stream_id=self.marked_stream(registered),
        )

    def marked_stream(self, registered: Registered) -> str | None:
        """The record must still name it."""
        return registered.stream.id

    def _rewrite(
        self,
        registered: Registered,
        change: Callable[[Worker], Worker],
        then: Callable[[int | None], None] = lambda _: None,
        stream_id: str | None = None,
    ) -> None:
        """Change the record of this incarnation (while it names the stream), guarded."""
        key = MEMBERS + registered.node_id

        def read(entries: list[Entry] | None) -> None:
            entry = next(iter(entries or ()), None)
            worker = worker_of(entry) if entry is not None else None
            if entry is None or worker is None or worker.incarnation != registered.incarnation:
                return
            if stream_id is not None and worker.stream_id != stream_id:
                return
            guards = [Guard(key, modified=entry.mod_revision)]
            self.write({key: (change(worker), entry.lease)}, guards, then)

        self.ask(lambda: self.store.under(key), read)

    def send_elsewhere(self, node_id: NodeId) -> None:
        for registered in self._registered.values():
            if registered.node_id == node_id:
                registered.stream.down.send(ev.GoElsewhere())


def _has_table(puts: Mapping[str, tuple[Value, int]]) -> bool:
    return any(isinstance(value, ShardTable) for value, _ in puts.values())
