"""One worker of a test's cluster: the real host and its cores, and a lease that just goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from seedbed.client_session import DEFAULT_DEADLINE_S
from seedbed.clock import Clock
from seedbed.ids import Incarnation, NodeId
from seedbed.routing import Owner, ShardTable
from seedbed.service.metrics import Metrics
from seedbed.settings_list import SETTINGS
from seedbed.testing.calls import KitSession
from seedbed.testing.memory_transport import MemoryTransport
from seedbed.testing.patience import PATIENCE_S
from seedbed_seed.core.membership import Status, Worker
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.region import Region
from seedbed_worker.entity_store import EntityStore
from seedbed_worker.host import Host
from seedbed_worker.hosted import HostedClass
from seedbed_worker.link_server import LinkServer
from seedbed_worker.onward import Onward
from seedbed_worker.runtime import HostLimits

TTL_NS: Final = int(SETTINGS["SEEDBED_LEASE_TTL_S"].default) * 1_000_000_000
REPEAT_WINDOW_S: Final = float(SETTINGS["SEEDBED_REPEAT_WINDOW_S"].default)

ALL_TIME_S: Final = 1e9

_MARGIN_NS: Final = TTL_NS // 10
_PORT: Final = 1


class KitWorker:
    """A worker that is a member from its start, and says no goodbye."""

    def __init__(
        self,
        number: int,
        hosted: Sequence[HostedClass],
        store: EntityStore,
        clock: Clock,
        network: MemoryTransport,
    ) -> None:
        name = f"worker-{number}"
        self.number = number
        self.record = Worker(
            NodeId(name), Incarnation(f"{name}-1"), name, _PORT, TTL_NS, Status.UP,
            types={one.contract.type: one.durable for one in hosted},
        )  # fmt: skip
        self._clock = clock
        self._beats = 0
        self._lease = Lease(self.record.incarnation, TTL_NS, _MARGIN_NS)
        self._region = Region()
        self.host = Host(
            hosted=hosted,
            region=self._region,
            clock=clock,
            limits=HostLimits(reminder_window_s=ALL_TIME_S),  # the clock is not stopped for looks
            node_id=name,
            metrics=Metrics(),
            store=store,
        )
        self.session = KitSession(network, clock, node=name)
        onward = Onward(
            self.session, default_deadline_s=DEFAULT_DEADLINE_S, repeat_window_s=REPEAT_WINDOW_S
        )
        self.host.rt.channel = onward.channel
        self._server = network.server(LinkServer(self.host, clock=clock, node_id=name))
        self._running: list[asyncio.Task[None]] = []

    def owner(self, type_: str) -> Owner:
        """This worker as tables name it."""
        record = self.record
        return Owner(
            record.node_id, record.incarnation, record.host, record.port, record.types[type_]
        )

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Serve, in children of this group, until `stop`."""
        name = self.record.node_id
        self._running = [
            tasks.create_task(self.host.run(), name=name),
            tasks.create_task(self.session.run(), name=f"{name}, calls"),
        ]
        await self._server.start(self.record.host, self.record.port)
        self.renew(self._clock.now_ns())
        self._region.begin(self.record.incarnation)
        self.host.begin(self._lease)

    def told(self, tables: Sequence[ShardTable]) -> None:
        """Take over newer tables."""
        if self._region.observe(tables, self._clock.now_ns()):
            self.host.region_changed()

    def renew(self, at_ns: int) -> None:
        """Make the lease outlive a clock that will jump to this time."""
        self._beats += 1
        self._lease.sent(self._beats, at_ns)
        self._lease.renewed(self._beats, TTL_NS, self._clock.now_ns())

    async def crash(self) -> None:
        """Be gone, with all that was in memory; nothing that still runs can have an effect."""
        self._region.fence()
        self._lease.fence()
        self._server.stop_listening()
        self._server.cut()
        self.stop()
        # A turn that does not heed its cancellation goes on, without effect.
        await asyncio.wait(self._running, timeout=PATIENCE_S)

    def stop(self) -> None:
        """Let its tasks end."""
        for task in self._running:
            task.cancel()
