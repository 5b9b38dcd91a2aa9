"""A worker put together: its parts, and the order in which they start and end.

Both ports are open before the first Hello, since seeds dial the worker. At the end the listener
stays open until goodbye has been said: a refused dial is taken for evidence of death, so it must
not be seen while this incarnation may still serve.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from seedbed.clock import SystemClock
from seedbed.entity import Factory
from seedbed.errors import Reason, SettingsError
from seedbed.grpc_transport import GrpcTransport
from seedbed.ids import Epoch
from seedbed.routing import address
from seedbed.service import logs
from seedbed.service.lifecycle import print_ready
from seedbed.service.loop_lag import LoopLag
from seedbed.service.management import Management
from seedbed.service.metrics import Metrics
from seedbed.settings import bad_setting
from seedbed.tracing import Tracer
from seedbed_worker.binding import Welcomed
from seedbed_worker.config import WorkerConfig
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.region import Region
from seedbed_worker.durability import durability
from seedbed_worker.entity_port import EntityPort
from seedbed_worker.entity_store import Ownership
from seedbed_worker.gauges import set_gauges
from seedbed_worker.health import WorkerHealth
from seedbed_worker.host import Host
from seedbed_worker.identity import identity
from seedbed_worker.journal.port import WrongJournal
from seedbed_worker.link_server import LinkServer
from seedbed_worker.load_meter import LoadMeter
from seedbed_worker.loader import load_or_refuse
from seedbed_worker.loop_watch import LoopWatch
from seedbed_worker.onward import onward
from seedbed_worker.session import Session

log = logging.getLogger(__name__)

LAST_TURNS_NS = 1_000_000_000
"""What running turns have after a drain that timed out."""
FAREWELL_S = 2.0
"""How long a seed may take to confirm a goodbye."""
CLOSE_S = 0.2
"""How long the streams of routers may take to end after it; they never end by themselves."""


class Worker:
    """One worker process. What the session tells is carried out here, in the loop."""

    def __init__(self, config: WorkerConfig, tracer: Tracer, factories: Sequence[Factory]) -> None:
        self.config = config
        self.clock = clock = SystemClock()
        self.metrics = Metrics()
        self.lag = LoopLag(clock)
        self.region = Region(int(config.handoff_timeout_s * 1e9))
        self.hosted, refusal = load_or_refuse(factories)
        self.health = WorkerHealth(
            clock=clock,
            lag=self.lag,
            loop_stall_limit_s=config.loop_stall_limit_s,
            services=[one.contract.service for one in self.hosted],
        )
        self.health.refusal = refusal
        self.durability = durability(
            config.journal,
            self.hosted,
            require_sync=config.journal_require_sync,
            lost=self._taken,
            epoch_seen=self._epoch_seen,
            keep=config.journal_keep,
        )
        if self.durability is not None:
            self.health.journal = self.durability.binding.why_not
        self.host = Host(
            hosted=self.hosted,
            region=self.region,
            clock=clock,
            limits=config.host_limits(),
            node_id=config.node_id,
            metrics=self.metrics,
            tracer=tracer,
            epoch_seen=self._epoch_seen,
            released=self._released,
            reminder_ended=lambda type_, method, end: self.metrics.counter(
                "seedbed_reminders_total", type_, method, end
            ).add(),
            store=self.durability.store if self.durability is not None else None,
        )
        # Links have no limit of gRPC's: their batches are counted, and entity calls by their port.
        transport = GrpcTransport(
            max_message_bytes=None, tls=config.tls, authority=config.authority, clock=clock
        )
        self.onward = onward(config, transport, clock, tracer)
        self.host.rt.channel = self.onward.channel
        self.server = transport.server(
            # First, since it is asked about every call; the others only about streams.
            EntityPort(
                self.host,
                clock=clock,
                max_message_bytes=config.max_message_bytes,
                default_deadline_s=config.default_deadline_s,
            ),
            LinkServer(self.host, clock=clock, node_id=config.node_id),
            self.health.grpc,
        )
        self.management = Management(
            alive=self.health.alive, ready=self.health.ready, metrics=self.metrics.render
        )
        self.session: Session | None = None
        self._committing: asyncio.Task[None] | None = None
        set_gauges(self)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then leave."""
        with LoopWatch(self.lag, self.clock, self.config.loop_warn_s):
            await self._serve(stop)

    async def _serve(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self.onward.run(), name="onward calls"),
                tasks.create_task(self.host.run(), name="host"),
                tasks.create_task(self.lag.run(), name="loop lag"),
                tasks.create_task(self.health.run(), name="health"),
            ]
            port = await self._listen()
            http_port = self.management.start(self.config.bind, self.config.http_port)
            logs.release()
            announcing = tasks.create_task(self._announce(port, http_port), name="announce")
            joining = tasks.create_task(self._join(port, tasks), name="join")
            await stop.wait()
            announcing.cancel()
            joining.cancel()
            await self._leave()
            for task in running:
                task.cancel()

    async def _join(self, port: int, tasks: asyncio.TaskGroup) -> None:
        """Register, once the journal is there; not at all if this worker has refused itself."""
        if self.health.refusal:
            return
        durability = self.durability
        try:
            if durability is not None:
                await durability.binding.open(self.config.cluster)
                self._committing = tasks.create_task(durability.run(), name="journal")
            self.session = session = self._register(port)
            tasks.create_task(session.run(), name="session")
            if durability is not None:
                await durability.binding.keep(session.bound)
        except WrongJournal as error:
            self._refuse(Reason.WRONG_JOURNAL, error)
            if self.session is not None:
                await self.session.leave(FAREWELL_S)

    # What the session tells.

    def welcomed(self, welcomed: Welcomed) -> None:
        """Bind the journal to the cluster."""
        if self.durability is not None:
            self.durability.binding.welcomed(welcomed)

    def up(self, lease: Lease) -> None:
        """Serve under this lease."""
        self.host.begin(lease)
        self.health.refresh()

    def may_be_given(self) -> None:
        """Ready, if nothing else is wrong."""
        self.health.refresh()

    def tables_changed(self) -> None:
        """Look again at what waits, and at what is ours."""
        self.host.region_changed()

    def fenced(self, why: str) -> None:
        """Drop everything before the session goes on."""
        self.host.drop_all(Reason.FENCED)
        self.metrics.counter("seedbed_fenced_total").add()
        self.health.refresh()

    def refused(self, reason: str, message: str) -> None:
        """Readiness has the text; nothing else to do but wait, and see whose the journal is."""
        if self.durability is not None and reason == Reason.WRONG_JOURNAL.value:
            self.durability.binding.look_again()
        self.health.refresh()

    # Start.

    async def _listen(self) -> int:
        config = self.config
        try:
            return await self.server.start(config.bind, config.port)
        except SettingsError as error:
            expected = f"a port of {config.bind} to listen on ({error})"
            raise bad_setting("SEEDBED_PORT", str(config.port), expected) from error

    def _register(self, port: int) -> Session:
        config = self.config
        counters = [
            self.metrics.calls(one.contract.type, name)
            for one in self.hosted
            for name in one.contract.methods
        ]
        session = Session(
            identity=identity(config, port, self.hosted),
            seeds=config.seeds,
            region=self.region,
            clock=self.clock,
            events=self,
            load=LoadMeter(self.clock, counters, lambda: self.host.rt.live, self.host.shards).read,
            loop_lag_ns=self.lag.lag_ns,
            loop_stall_limit_ns=int(config.loop_stall_limit_s * 1e9),
            tls=config.tls,
            authority=config.authority,
            whose=self.durability.binding.whose if self.durability is not None else None,
        )
        self.health.follow(
            lease=lambda: session.lease,
            problem=lambda: session.problem,
            tables_loaded=lambda: session.tables_loaded,
            may_be_given=lambda: session.may_be_given,
            skew_ms=lambda: session.skew_ms,
        )
        return session

    async def _announce(self, port: int, http_port: int) -> None:
        await self.health.until_ready()
        bind = self.config.bind
        print_ready(
            "worker",
            self.config.node_id,
            grpc=address(bind, port),
            http=address(bind, http_port),
        )

    # End.

    async def _leave(self) -> None:
        """Hand off, end what is left, fence, say goodbye, and only then close the listener."""
        log.info("worker draining", extra={"node": self.config.node_id})
        self.health.draining = True
        self.health.refresh()
        deadline_ns = self.clock.now_ns() + int(self.config.drain_timeout_s * 1e9)
        if self.session is not None:
            leaving = self.host.leaving
            self.session.drain()
            if not await leaving.handed_off(deadline_ns):
                log.warning(
                    "drain timed out",
                    extra={"shards": self.region.shards_owned(), "running": leaving.running()},
                )
            await leaving.drain(max(deadline_ns, self.clock.now_ns() + LAST_TURNS_NS))
            await self.session.leave(FAREWELL_S)
        await self.server.close(CLOSE_S)
        if self.durability is not None:
            if self._committing is not None:
                self._committing.cancel()
            await self.durability.close()
        await asyncio.to_thread(self.management.close)
        log.info("worker stopped", extra={"node": self.config.node_id})

    def _released(self, ended: int, late: int) -> None:
        log.info("shards released", extra={"shards": ended + late, "at_limit": late})
        self.metrics.counter("seedbed_handoffs_total", "released").add(ended)
        self.metrics.counter("seedbed_handoffs_total", "limit").add(late)
        if self.session is not None:
            self.session.releases_changed()

    def _taken(self, shard: Ownership, superseded: bool) -> bool:
        return self.host.give_up(shard, superseded=superseded)

    def _refuse(self, reason: Reason, error: Exception) -> None:
        log.error("worker refused", extra={"reason": reason.value, "refusal": str(error)})
        self.health.refusal = f"{reason.value}: {error}"
        self.health.refresh()

    def _epoch_seen(self, type_: str, shard: int, epoch: Epoch) -> None:
        if self.session is not None:
            self.session.epoch_met(type_, shard, epoch)
