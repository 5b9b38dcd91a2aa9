"""A simulated seed: the real coordinator and sessions, round a small shell.

What the shell does by itself is what the product's shell does, in the same order and with the same
guards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seedbed.ids import Epoch
from seedbed.routing import ShardTable
from seedbed_seed.core import coordinator as core
from seedbed_seed.core import decisions, sessions
from seedbed_seed.core.membership import Worker
from seedbed_seed.core.orders import Orders
from seedbed_worker.core import session_messages as msg
from tests.simulation.attendance import Attendance
from tests.simulation.candidacy import Candidacy
from tests.simulation.driver import Driver
from tests.simulation.joining import Joining
from tests.simulation.kernel import MS, Channel, Process
from tests.simulation.keys import ORDERS, worker_of
from tests.simulation.router import SimRouter
from tests.simulation.store import Entry, Guard, Update
from tests.simulation.store_client import StoreClient

if TYPE_CHECKING:  # seed, worker and world know one another
    from tests.simulation.streams import Stream
    from tests.simulation.world import World


class SimSeed:
    coordinator_class: type[core.Coordinator] = core.Coordinator
    attendance_class: type[Attendance] = Attendance
    client_class: type[StoreClient] = StoreClient

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
        self.coordinator = self.coordinator_class(self.world.settings)
        self.client = self.client_class(self)
        self.attendance = self.attendance_class(self)
        self.router = SimRouter(self.world, self.process)
        self.revision = 0
        self.leading = False
        self.store_life = 0
        self._joining = Joining(self)
        self._driver = Driver(self)
        self._entries: dict[str, Entry] = {}
        self._candidacy = Candidacy(self)
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
            for registered in self.attendance.registered.values():
                registered.stream.down.send(None)
            for call in self.router.calls:
                self.world.referee.end(call, "its seed died")

    def pause(self, duration_ns: int) -> None:
        self.kernel.log(f"{self.name}: stands still for {duration_ns // MS} ms")
        self.process.paused_until_ns = self.kernel.now_ns + duration_ns

    def resign(self) -> None:
        """Stop leading, and be the youngest candidate."""
        self.kernel.log(f"{self.name}: resigns")
        self._candidacy.stand()

    # The one watch.

    def _observe(self, update: Update) -> None:
        changes = dict(update.entries)
        self.store_life = update.life
        if update.snapshot:
            self._entries = {key: entry for key, entry in changes.items() if entry is not None}
            self.apply(
                decisions.Synced(
                    tuple(self.workers()),
                    tuple(self.tables().values()),
                    self.world.contracts,
                    self.orders(),
                    restored=update.restored,
                )
            )
        else:
            for key, entry in changes.items():
                self._take(key, entry)
        tables = [e.value for e in changes.values() if e and isinstance(e.value, ShardTable)]
        self.revision = update.revision
        self.router.table.apply(update.revision, tables, snapshot=False, restored=update.restored)
        if update.restored:
            self._begin_anew()
        for registered in list(self.attendance.registered.values()):
            if tables:
                registered.stream.down.send(msg.Routes(tuple(tables)))
            self.attendance.apply(registered, sessions.RoutesSent(update.revision))
        if self._candidacy.leads(self._entries) != self.leading:
            self.leading = not self.leading
            self.kernel.log(f"{self.name}: {'leads' if self.leading else 'leads no more'}")
            self.apply(decisions.Elected() if self.leading else decisions.Deposed())
        self._driver.decide()
        self.router.changed(self.coordinator.unreachable())

    def _take(self, key: str, entry: Entry | None) -> None:
        before = self._entries.pop(key, None)
        if entry is not None:
            self._entries[key] = entry
            if (worker := worker_of(entry)) is not None:
                self.apply(decisions.WorkerSeen(worker))
            elif isinstance(entry.value, ShardTable):
                self.apply(decisions.TableSeen(entry.value))
            elif isinstance(entry.value, Orders):
                self.apply(decisions.OrdersSeen(entry.value))
        elif before is not None and (worker := worker_of(before)) is not None:
            self.apply(decisions.WorkerGone(worker.node_id, worker.incarnation))
        elif key == ORDERS:
            self.apply(decisions.OrdersSeen(Orders()))

    def _begin_anew(self) -> None:
        """Revisions begin anew: what was sent by the old ones proves nothing, nor does a term."""
        self.kernel.log(f"{self.name}: sees a restored store")
        for registered in list(self.attendance.registered.values()):
            self.attendance.apply(registered, sessions.StreamEnded())
        if self.leading:
            self.leading = False
            self.apply(decisions.Deposed())
        self._driver.forget()
        self._candidacy.stand()

    # What it knows.

    def tables(self) -> dict[tuple[str, int], ShardTable]:
        tables = [e.value for e in self._entries.values() if isinstance(e.value, ShardTable)]
        return {(table.type, table.chunk): table for table in tables}

    def workers(self) -> list[Worker]:
        workers = (worker_of(entry) for entry in self._entries.values())
        return [worker for worker in workers if worker is not None]

    def orders(self) -> Orders:
        entry = self._entries.get(ORDERS)
        return entry.value if entry is not None and isinstance(entry.value, Orders) else Orders()

    def leadership(self) -> Guard:
        """Holds while this seed leads."""
        return self._candidacy.guard(self._entries)

    def wall_ms(self) -> int:
        return self.kernel.now_ns // MS + self._skew_ms

    # What it is told.

    def apply(self, event: decisions.Event) -> None:
        self.coordinator.apply(event, self.kernel.now_ns)

    def report(self, type_: str, shard: int, epoch: Epoch) -> None:
        """A worker knows a higher epoch than the newest table's."""
        self.apply(decisions.EpochReported(type_, shard, epoch))
        self._driver.decide()

    def order(self, *moves: decisions.ShardMove) -> None:
        """An operator wants these moves."""
        if not self.coordinator.why_not(moves):
            self.apply(decisions.MovesOrdered(moves))
            self._driver.decide()

    def heard(self, stream: Stream, message: msg.Hello | msg.ToSeed | None) -> None:
        """A message on a Register stream; None: its end."""
        registered = self.attendance.registered.get(stream.id)
        if isinstance(message, msg.Hello):
            self._joining.hello(stream, message)
        elif registered is not None:
            self.attendance.heard(registered, message)
