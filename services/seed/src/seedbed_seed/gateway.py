"""The entity services' front door: finds the method of every path, or says that there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from seedbed.contract import TypeContract
from seedbed.errors import CallError, Reason
from seedbed.service.metrics import Metrics
from seedbed.transport import (
    BidiMethod,
    Method,
    ServerCall,
    ServerStreamMethod,
    UnaryMethod,
)
from seedbed_seed.cluster_view import ClusterView, ViewChange
from seedbed_seed.contracts import Contracts
from seedbed_seed.edge import Edge, Route
from seedbed_seed.store import StoreError

MISS_S = 1.0
"""For so long a path that nobody knows is not looked for in the store again."""

MISSES = 1000
"""Unknown paths that are remembered."""


class Gateway:
    """`Methods` for every path: those of entity services, and the answer for unknown ones."""

    def __init__(
        self,
        *,
        view: ClusterView,
        contracts: Contracts,
        edge: Edge,
        metrics: Metrics,
    ) -> None:
        self._edge = edge
        self._metrics = metrics
        self._view = view
        self._contracts = contracts
        self._methods: dict[str, Method] = {}
        self._services: dict[str, TypeContract] = {}
        self._misses: dict[str, int] = {}
        self._reading = asyncio.Lock()
        view.listen(self._changed)

    def find(self, method: str) -> Method | None:
        """The method of this path; one that looks for it, if it is not known."""
        return self._methods.get(method) or BidiMethod(self._look_for)

    async def _look_for(
        self, call: ServerCall, requests: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """A call of a path that this seed does not know (yet): of either kind, so taken as both."""
        method = await self._find_anew(call.method)
        request = await anext(aiter(requests), None)
        if request is None:
            raise CallError(Reason.BAD_REQUEST, f"{call.method} was called without a request")
        match method:
            case UnaryMethod(handler):
                yield await handler(call, request)
            case ServerStreamMethod(stream):
                async for item in stream(call, request):
                    yield item
            case _:
                raise CallError(Reason.UNKNOWN_METHOD, self._unknown(call.method))

    async def _find_anew(self, path: str) -> Method | None:
        now_ns = self._edge.clock.now_ns()
        self._edge.check_ready(now_ns)
        missed_ns = self._misses.get(path)
        if missed_ns is not None and now_ns - missed_ns < MISS_S * 1e9:
            return None
        async with self._reading:
            if path not in self._methods:
                try:
                    known = await self._contracts.read_all()
                except StoreError as error:
                    raise CallError(
                        Reason.SEED_NOT_READY,
                        f"{path} is not known here, and etcd cannot be asked ({error}); nothing"
                        " ran: another seed may answer",
                    ) from error
                self._take(contract.contract for contract in known)
        method = self._methods.get(path)
        if method is None:
            if len(self._misses) >= MISSES:
                self._misses.clear()
            self._misses[path] = self._edge.clock.now_ns()
        return method

    def _unknown(self, path: str) -> str:
        service, _, name = path.lstrip("/").rpartition("/")
        known = self._services.get(service)
        if known is not None:
            methods = ", ".join(sorted(known.methods))
            return f"entity service {service} has no method {name!r}; it has: {methods}"
        if service.startswith(("seedbed.", "grpc.")):
            return f"no method {path} here; the others of {service} may be: ask server reflection"
        services = ", ".join(sorted(self._services)) or "none yet"
        return (
            f"no service {service!r} in this cluster; entity services: {services} (one is known"
            " once a worker that hosts it has registered)"
        )

    def _changed(self, change: ViewChange) -> None:
        if change.snapshot:
            self._methods.clear()
            self._services.clear()
        self._take(known.contract for known in change.contracts)

    def _take(self, contracts: Iterable[TypeContract]) -> None:
        for contract in contracts:
            if self._services.get(contract.service) == contract:
                continue
            self._services[contract.service] = contract
            self._edge.open_streams.setdefault(contract.type, 0)
            for method in contract.methods.values():
                calls = self._metrics.calls(contract.type, method.name)
                route = Route(self._edge, contract, method, calls)
                self._methods[method.path] = (
                    ServerStreamMethod(route.stream)
                    if method.server_streaming
                    else UnaryMethod(route.unary)
                )
