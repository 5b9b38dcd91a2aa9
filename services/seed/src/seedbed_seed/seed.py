"""A seed put together: its parts, and the order in which they start and end."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import AsyncExitStack
from importlib.metadata import version

from seedbed.clock import SystemClock
from seedbed.errors import SettingsError
from seedbed.grpc_transport import GrpcTransport
from seedbed.router import Router, RouterLimits
from seedbed.routing import RouteTable, address
from seedbed.service import logs
from seedbed.service.health import Health
from seedbed.service.lifecycle import print_ready
from seedbed.service.loop_lag import LoopLag
from seedbed.service.management import Management
from seedbed.service.metrics import Metrics
from seedbed.service.telemetry import Telemetry
from seedbed.settings import bad_setting
from seedbed.v1 import store_pb2
from seedbed_seed.admin import Admin
from seedbed_seed.attendance import Attendance
from seedbed_seed.cluster_story import ClusterStory
from seedbed_seed.cluster_view import ClusterView, ViewChange
from seedbed_seed.config import SeedConfig
from seedbed_seed.contracts import Contracts
from seedbed_seed.core.coordinator import Coordinator
from seedbed_seed.driver import Driver
from seedbed_seed.edge import Edge, GatewaySettings
from seedbed_seed.epoch_reports import EpochReports
from seedbed_seed.events import Events, OverloadStory
from seedbed_seed.evidence import Budget, Dialler
from seedbed_seed.gateway import Gateway
from seedbed_seed.gauges import set_gauges
from seedbed_seed.health import SeedHealth
from seedbed_seed.joining import Joining
from seedbed_seed.journal_pin import JournalPin
from seedbed_seed.leader_verbs import LeaderVerbs
from seedbed_seed.leaving import leave
from seedbed_seed.lost_workers import LostWorkers
from seedbed_seed.member_records import MemberRecords
from seedbed_seed.order_book import OrderBook
from seedbed_seed.order_verbs import OrderVerbs
from seedbed_seed.outlook import ShardOutlook
from seedbed_seed.placement import Placement
from seedbed_seed.records import Keys
from seedbed_seed.reflection import Reflection
from seedbed_seed.registration import Registration, RegistrationSettings
from seedbed_seed.routes import RouteLog, Watches
from seedbed_seed.seed_lease import SeedLease
from seedbed_seed.stores import AnyStore

log = logging.getLogger(__name__)


class Seed:
    """One seed process."""

    def __init__(
        self,
        config: SeedConfig,
        store: AnyStore,
        telemetry: Telemetry,
        transport: GrpcTransport | None = None,
    ) -> None:
        self.config = config
        self.store = store
        self.clock = clock = SystemClock()
        self.metrics = Metrics()
        self.lag = LoopLag(clock)
        self.transport = transport or GrpcTransport(
            max_message_bytes=config.max_message_bytes,
            tls=config.tls,
            authority=config.authority,
            max_connection_age_s=config.max_connection_age_s,
            clock=clock,
        )
        keys = Keys(config.cluster)
        ttl_s, step_s = config.lease_ttl_s, config.lease_ttl_s / 8
        coordinator = Coordinator(config.coordinator)
        self.events = Events(clock, config.events)
        self.view = ClusterView(
            store=store,
            clock=clock,
            keys=keys,
            coordinator=coordinator,
            role_of=config.role_of,
            told=self.events.member,
        )
        self.member = _member(config)
        self.lease = SeedLease(store=store, clock=clock, keys=keys, member=self.member, ttl_s=ttl_s)
        self.router = Router(
            transport=self.transport,
            clock=clock,
            node=config.node_id,
            limits=RouterLimits(config.parking),
            table=RouteTable(),
            outlook=ShardOutlook(coordinator, clock),
            tracer=telemetry.tracer,
            role="seed",
        )
        self.view.listen(self._routes_changed)
        self.story = ClusterStory(self.view, clock, self.events.tell)
        self.driver = Driver(
            store=store,
            clock=clock,
            view=self.view,
            lease=self.lease,
            node_id=config.node_id,
            placement=Placement(store=store, clock=clock, view=self.view, write_s=ttl_s / 2),
        )
        self.routes = RouteLog(self.view, clock)
        self.watches = Watches(self.view, self.routes)
        self.health = Health()
        self.checks = SeedHealth(
            view=self.view, store=store, health=self.health, clock=clock, lag=self.lag
        )
        contracts = Contracts(
            store=store, keys=keys, default_shards=config.shards, timeout_s=step_s
        )
        self.edge = Edge(
            view=self.view,
            router=self.router,
            clock=clock,
            settings=GatewaySettings(
                config.max_message_bytes, config.default_deadline_s, self.checks.limit(ttl_s)
            ),
            tracer=telemetry.tracer,
            overloaded=OverloadStory(self.events).answered,
        )
        self.gateway = Gateway(
            view=self.view, contracts=contracts, edge=self.edge, metrics=self.metrics
        )
        self.epochs = EpochReports(
            view=self.view,
            transport=self.transport,
            lead=self.driver.epoch_reported,
            timeout_s=step_s,
        )
        self.pin = JournalPin(store, keys, step_s)
        self.admin = self._admin(OrderBook(store, keys, step_s))
        self.registration = self._registration(MemberRecords(store, keys, step_s), contracts)
        self.server = self.transport.server(
            self.registration,
            self.watches,
            self.epochs,
            self.admin,
            Reflection(self.view),
            self.health,
            self.gateway,  # last: it knows an answer to every path
        )
        self.management = Management(
            alive=self.checks.alive, ready=self.checks.ready, metrics=self.metrics.render
        )
        set_gauges(self)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then leave."""
        config = self.config
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.store)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            running = [
                tasks.create_task(self.lag.run(), name="loop lag"),
                tasks.create_task(self.view.run(), name="cluster view"),
                tasks.create_task(self.registration.run(), name="registration"),
                tasks.create_task(self.epochs.run(), name="epoch reports"),
                tasks.create_task(self.checks.run(), name="health"),
            ]
            routing = tasks.create_task(self.router.run(), name="router")
            self.member.port = await self._listen()
            http_port = self.management.start(config.bind, config.http_port)
            logs.release()
            driving = tasks.create_task(self.driver.run(), name="driver")
            announcing = tasks.create_task(self._announce(http_port), name="announce")
            await stop.wait()
            announcing.cancel()
            await leave(self, driving, routing)
            for task in running:
                task.cancel()
            self.management.close()

    def _registration(self, records: MemberRecords, contracts: Contracts) -> Registration:
        config, view, clock = self.config, self.view, self.clock
        dialler = Dialler(self.transport)
        return Registration(
            view=view,
            routes=self.routes,
            joining=Joining(
                records=records,
                contracts=contracts,
                pin=self.pin,
                dialler=dialler,
                ttl_s=config.lease_ttl_s,
                owners=view.owners,
            ),
            attendance=Attendance(
                records=records,
                view=view,
                clock=clock,
                load_interval_ns=config.rebalance.interval_ns,
                epoch_seen=self.epochs.seen,
            ),
            lost=LostWorkers(
                records=records,
                view=view,
                dialler=dialler,
                budget=Budget(clock, config.lease_ttl_s),
                clock=clock,
                evidence=config.evidence != "off",
            ),
            clock=clock,
            settings=RegistrationSettings(
                config.node_id, config.lease_ttl_s, config.max_message_bytes
            ),
            events=self.events,
        )

    def _admin(self, orders: OrderBook) -> Admin:
        table_of = self.router.table.table
        return Admin(
            view=self.view,
            table_of=table_of,
            orders=OrderVerbs(self.view, orders, table_of, self.config.orders),
            leader=LeaderVerbs(
                view=self.view,
                node_id=self.config.node_id,
                transport=self.transport,
                clock=self.clock,
                table_of=table_of,
                leads=lambda: self.driver.leading,
                order=self.driver.moves_ordered,
            ),
            pin=self.pin,
            events=self.events,
        )

    async def _listen(self) -> int:
        config = self.config
        try:
            return await self.server.start(config.bind, config.port)
        except SettingsError as error:
            text = f"a port of {config.bind} to listen on ({error})"
            raise bad_setting("SEEDBED_PORT", str(config.port), text) from error

    async def _announce(self, http_port: int) -> None:
        await self.checks.until_ready()
        bind = self.config.bind
        print_ready(
            "seed",
            self.config.node_id,
            grpc=address(bind, self.member.port),
            http=address(bind, http_port),
        )

    def _routes_changed(self, change: ViewChange) -> None:
        coordinator = self.view.coordinator
        self.router.routes_changed(
            change.revision,
            change.tables,
            snapshot=change.snapshot,
            restored=change.restored,
            unreachable=coordinator.unreachable(),
            without_workers=coordinator.without_workers(),
        )


def _member(config: SeedConfig) -> store_pb2.Member:
    """This seed as its record names it, but for its port."""
    return store_pb2.Member(
        node_id=config.node_id,
        incarnation=secrets.token_hex(8),
        role=store_pb2.ROLE_SEED,
        status=store_pb2.MEMBER_STATUS_UP,
        app_version=version("seedbed-seed"),
        host=config.host,
    )
