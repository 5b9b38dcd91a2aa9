"""The entity: the servicer one would write for plain grpc.aio, with a key and a state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, timedelta

import grpc

from seedbed import Abort, Entity, ServicerContext
from thermostat.v1 import thermostat_pb2 as pb
from thermostat.v1 import thermostat_pb2_grpc as pb_grpc

COLDEST, WARMEST = -60.0, 60.0
SILENT = timedelta(minutes=5)
"""A device that says nothing for so long is offline."""


class Thermostat(Entity[pb.ThermostatState], pb_grpc.ThermostatServicer):
    """One device; its key is the device's id."""

    async def Report(self, request: pb.Reading, context: ServicerContext) -> pb.Status:
        check(request.celsius)
        self.state.celsius = request.celsius
        self.state.readings += 1
        self.state.reported_at.FromDatetime(self.turn.now)
        if request.owner_name:
            self.state.owner_name = request.owner_name
        self.save()
        return self.status()

    async def Get(self, request: pb.DeviceRef, context: ServicerContext) -> pb.Status:
        return self.status()

    async def SetTarget(self, request: pb.Target, context: ServicerContext) -> pb.Status:
        check(request.celsius)
        self.state.target_celsius = request.celsius
        self.save()
        return self.status()

    async def Retire(self, request: pb.DeviceRef, context: ServicerContext) -> pb.Status:
        if self.exists:
            self.delete()
        return self.status()

    async def Watch(
        self, request: pb.DeviceRef, context: ServicerContext
    ) -> AsyncIterator[pb.Status]:
        async for _ in self.changes():
            yield self.status()

    def status(self) -> pb.Status:
        status = pb.Status(
            device_id=self.key,
            celsius=self.state.celsius,
            target_celsius=self.state.target_celsius,
            readings=self.state.readings,
            heating=self.state.celsius < self.state.target_celsius,
            worker=self.turn.worker,
        )
        if self.state.HasField("reported_at"):
            status.reported_at.CopyFrom(self.state.reported_at)
            at = self.state.reported_at.ToDatetime(tzinfo=UTC)
            status.online = self.turn.now - at < SILENT
        return status


def check(celsius: float) -> None:
    """Refuse what no thermostat measures (also NaN)."""
    if not COLDEST <= celsius <= WARMEST:
        raise Abort(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"celsius is {celsius:g}, expected {COLDEST:g} to {WARMEST:g}",
        )
