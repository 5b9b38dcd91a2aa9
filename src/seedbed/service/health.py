"""The gRPC health service, answered by the loop that answers calls: it proves the path they take.

Services: `liveness`, `readiness`, the empty name (the same as readiness), and each entity service.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2 as pb

from seedbed.transport import Method, ServerCall, ServerStreamMethod, StatusError, UnaryMethod

LIVENESS = "liveness"
READINESS = "readiness"

_SERVICE = "/grpc.health.v1.Health"
_INVALID_ARGUMENT = 3
_NOT_FOUND = 5
_UNIMPLEMENTED = 12

WATCHES = 1000
"""Streams of `Watch` at one time."""


class Health:
    """Holds the states and serves them; changed and asked only in the loop.

    Until told otherwise the process is alive and not ready.
    """

    def __init__(self) -> None:
        self._states: dict[str, bool] = {LIVENESS: True, READINESS: False, "": False}
        self._changed = asyncio.Event()
        self._watches = 0
        self._methods: dict[str, Method] = {
            f"{_SERVICE}/Check": UnaryMethod(self._check),
            f"{_SERVICE}/Watch": ServerStreamMethod(self._watch),
        }

    def set(
        self, *, alive: bool = True, ready: bool, services: Mapping[str, bool] | None = None
    ) -> None:
        """Say how things are; `services` are the entity services, whole list."""
        states = {LIVENESS: alive, READINESS: ready, "": ready, **(services or {})}
        if states != self._states:
            self._states = states
            self._changed.set()
            self._changed = asyncio.Event()

    def find(self, method: str) -> Method | None:
        """As the transport's `Methods`."""
        return self._methods.get(method)

    async def _check(self, call: ServerCall, request: bytes) -> bytes:
        service = _service(request)
        if service not in self._states:
            raise StatusError(_NOT_FOUND, f"unknown service {service!r}")
        return _response(self._states[service])

    async def _watch(self, call: ServerCall, request: bytes) -> AsyncIterator[bytes]:
        service = _service(request)
        if self._watches >= WATCHES:
            # Clients take this for a server that has no health to watch, and call it all the same.
            raise StatusError(_UNIMPLEMENTED, f"{WATCHES} health watches are open: call Check")
        self._watches += 1
        try:
            told: bytes | None = None
            while True:
                changed = self._changed
                now = _response(self._states.get(service))
                if now != told:
                    told = now
                    yield now
                await changed.wait()
        finally:
            self._watches -= 1


def _service(request: bytes) -> str:
    try:
        return pb.HealthCheckRequest.FromString(request).service
    except DecodeError as error:
        raise StatusError(_INVALID_ARGUMENT, "no HealthCheckRequest") from error


def _status(good: bool | None) -> pb.HealthCheckResponse.ServingStatus:
    if good is None:
        return pb.HealthCheckResponse.SERVICE_UNKNOWN
    return pb.HealthCheckResponse.SERVING if good else pb.HealthCheckResponse.NOT_SERVING


def _response(good: bool | None) -> bytes:
    return pb.HealthCheckResponse(status=_status(good)).SerializeToString()
