"""What an open client holds: a router, the contracts that seeds have told, and who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from seedbed import contract as contract_codec
from seedbed import tables as table_codec
from seedbed.addressing import entity_call, request_key
from seedbed.calls import EntityCall, Failed
from seedbed.client_outcomes import rpc_error
from seedbed.clock import Clock
from seedbed.contract import MethodContract, TypeContract
from seedbed.errors import CallError, ProtocolError, Reason
from seedbed.ids import Incarnation
from seedbed.outlook import ToldOutlook
from seedbed.parking import RETRY_S
from seedbed.request_ids import RequestIds
from seedbed.resolver import Resolver
from seedbed.router import Router, RouterLimits
from seedbed.routing import RouteTable
from seedbed.tracing import NO_TRACER, Tracer
from seedbed.transport import Transport
from seedbed.v1 import cluster_pb2

if TYPE_CHECKING:
    import grpc.aio

DEFAULT_DEADLINE_S: Final = 10.0
"""Of a unary call that brings none."""

GivenMetadata: TypeAlias = "grpc.aio.Metadata | Sequence[tuple[str, str | bytes]] | None"
"""What a caller gives along with a call."""

_NS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Method:
    """What a call of one path needs."""

    contract: MethodContract
    type: str
    shard_count: int


class ClientSession:
    """An open client: its router, and the contracts that seeds have told. Works while `run` runs.

    It is the `Caller` of all calls that a client makes.
    """

    router_class: ClassVar[type[Router]] = Router

    def __init__(
        self,
        transport: Transport,
        seeds: Sequence[str],
        limits: RouterLimits,
        clock: Clock,
        *,
        max_message_bytes: int = 4 * 1024 * 1024,
        node: str = "",
        tracer: Tracer = NO_TRACER,
    ) -> None:
        random = Random()
        self.clock = clock
        table = RouteTable()
        self._outlook = ToldOutlook(table, clock)
        self.router = self.router_class(
            transport=transport,
            clock=clock,
            node=node,
            limits=limits,
            table=table,
            outlook=self._outlook,
            random=random,
            tracer=tracer,
        )
        self.resolver = Resolver(
            transport=transport, seeds=seeds, random=random, changed=self._changed
        )
        self.synced = asyncio.Event()
        """Set when the first routes are there."""
        self._max_message_bytes = max_message_bytes
        self._max_waiting = limits.parking.calls
        self._ids = RequestIds(clock)
        self._methods: dict[str, Method] = {}
        self._contracts: Mapping[str, TypeContract] = {}
        self._waiting: dict[Callable[[], None], None] = {}

    async def run(self) -> None:
        """Follow the seeds and carry calls, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.router.run())
            tasks.create_task(self.resolver.run())

    def method(self, path: str) -> Method:
        """The method of a path; raises `CallError` if the cluster has none."""
        method = self._methods.get(path)
        if method is None:
            services = sorted({contract.service for contract in self._contracts.values()})
            raise CallError(
                Reason.UNKNOWN_METHOD,
                f"no entity method {path} in this cluster; entity services:"
                f" {', '.join(services) or 'none yet'} (one is known once a worker that hosts it"
                " has registered)",
            )
        return method

    def address(
        self, method: Method, request: bytes, deadline_ns: int | None, metadata: GivenMetadata
    ) -> EntityCall:
        """The call of a request's entity, without an id unless the caller names one.

        Raises `CallError` for a request without a good key, and for one that is too large.
        """
        path, shards, said = method.contract.path, method.shard_count, metadata or ()
        key = request_key(request, method.contract.key, self._max_message_bytes)
        return entity_call(path, method.type, key, shards, request, deadline_ns, said)

    def mint(self) -> str:
        """An id for a call that has none."""
        return self._ids.mint()

    # As the caller of a client's calls.

    @property
    def session(self) -> ClientSession:
        return self

    def caller(self) -> ClientSession:
        """A client's calls are its own."""
        return self

    async def ready(self) -> None:
        """Return when the first routes are there."""
        await self.synced.wait()

    def deadline_ns(self, timeout: float | None, *, stream: bool) -> int | None:
        """The deadline of a call that starts now."""
        if timeout is None:
            if stream:
                return None
            timeout = DEFAULT_DEADLINE_S
        return self.clock.now_ns() + int(timeout * _NS)

    def made(self, call: object) -> None:
        """A client does not ask what becomes of its calls."""

    def prepare(self, call: EntityCall) -> None:
        """Every call has an id."""
        if not call.request_id:
            call.request_id = self._ids.mint()

    def lets(self, call: object) -> bool:
        """Every call leaves at once."""
        return True

    def error(self, outcome: Failed, path: str, call: EntityCall | None) -> grpc.aio.AioRpcError:
        return rpc_error(outcome)

    async def changed_from(self, synced: bool) -> None:
        """Return when it is otherwise (once synced, it stays so)."""
        await (asyncio.Event() if synced else self.synced).wait()

    def when_synced(self, ready: Callable[[], None]) -> None:
        """Call this when the first routes are there. Raises `CallError` if too many wait."""
        if len(self._waiting) >= self._max_waiting:
            raise CallError(
                Reason.OVERLOADED,
                f"{self._max_waiting} calls already wait here for the first routes"
                " (SEEDBED_PARKED_CALLS); nothing ran",
                retry_after_s=RETRY_S,
            )
        self._waiting[ready] = None

    def not_synced(self) -> CallError:
        """The answer to a call whose deadline came before the first routes."""
        return CallError(
            Reason.SEED_NOT_READY,
            f"no seed has told this process its routes; nothing ran. Seeds:"
            f" {', '.join(self.resolver.seeds)}; last: {self.resolver.last_error}",
        )

    def forget(self, ready: Callable[[], None]) -> None:
        """It does not wait any more."""
        self._waiting.pop(ready, None)

    def _changed(self, update: cluster_pb2.RouteUpdate) -> None:
        tables = [table_codec.from_proto(table) for table in update.tables]
        contracts = dict(self._contracts)
        for message in update.contracts:
            contract = contract_codec.from_proto(message)
            contracts[contract.type] = contract
            for method in contract.methods.values():
                self._methods[method.path] = Method(method, contract.type, contract.shard_count)
        self._contracts = contracts
        # Another seed's snapshot may be older, or etcd may have been restored while we were
        # without a seed: taken as restored, generations alone decide, and those never fall.
        older = update.snapshot and update.revision < self.router.table.revision
        self._outlook.told(update.lost)  # before calls are moved on by the rest
        self.router.routes_changed(
            update.revision,
            tables,
            snapshot=update.snapshot,
            restored=update.restored or older,
            unreachable=frozenset(Incarnation(one) for one in update.unreachable),
            without_workers=frozenset(update.types_without_workers),
        )
        if not self.synced.is_set():
            if not update.snapshot:
                raise ProtocolError("the first update of a seed is no snapshot")
            self.synced.set()
            waiting, self._waiting = self._waiting, {}
            for ready in waiting:
                ready()
