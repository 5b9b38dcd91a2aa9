"""The thermostat in a cluster inside this process."""

from __future__ import annotations

import math
from datetime import timedelta

import grpc
import grpc.aio
import pytest
from thermostat.entity import Thermostat
from thermostat.v1 import thermostat_pb2 as pb
from thermostat.v1 import thermostat_pb2_grpc as pb_grpc

from seedbed.testing import cluster

KITCHEN = pb.DeviceRef(device_id="kitchen")


def reading(celsius: float) -> pb.Reading:
    return pb.Reading(device_id="kitchen", celsius=celsius)


async def test_it_heats_until_the_target_is_reached() -> None:
    async with cluster(Thermostat) as c:
        stub = pb_grpc.ThermostatStub(c.channel)
        await stub.SetTarget(pb.Target(device_id="kitchen", celsius=21))
        assert (await stub.Report(reading(19.5))).heating
        assert not (await stub.Report(reading(21))).heating
        assert (await stub.Get(KITCHEN)).readings == 2


async def test_a_watcher_sees_the_present_and_then_each_change() -> None:
    async with cluster(Thermostat) as c:
        stub = pb_grpc.ThermostatStub(c.channel)
        watching = stub.Watch(KITCHEN)
        seen = aiter(watching)
        assert (await anext(seen)).readings == 0
        await stub.Report(reading(19.5))
        assert (await anext(seen)).celsius == 19.5
        watching.cancel()


async def test_a_silent_device_is_offline() -> None:
    async with cluster(Thermostat) as c:
        stub = pb_grpc.ThermostatStub(c.channel)
        assert (await stub.Report(reading(20))).online
        await c.advance(timedelta(minutes=4, seconds=59))
        assert (await stub.Get(KITCHEN)).online
        await c.advance(timedelta(seconds=1))
        assert not (await stub.Get(KITCHEN)).online


async def test_it_comes_back_as_it_left() -> None:
    async with cluster(Thermostat, workers=2) as c:
        stub = pb_grpc.ThermostatStub(c.channel)
        await stub.Report(reading(19.5))
        await c.passivate(Thermostat, "kitchen")
        assert (await stub.Get(KITCHEN)).celsius == 19.5
        await c.move(Thermostat, "kitchen", to=1)
        assert (await stub.Get(KITCHEN)).celsius == 19.5


async def test_a_retired_device_is_forgotten() -> None:
    async with cluster(Thermostat) as c:
        stub = pb_grpc.ThermostatStub(c.channel)
        await stub.Report(reading(19.5))
        await stub.Retire(KITCHEN)
        assert (await stub.Get(KITCHEN)).readings == 0


@pytest.mark.parametrize("celsius", [61.0, math.nan])
async def test_a_reading_that_cannot_be_is_refused(celsius: float) -> None:
    async with cluster(Thermostat) as c:
        stub = pb_grpc.ThermostatStub(c.channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Report(reading(celsius))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
