"""FastAPI: one `seedbed.Client` for the process, open for its life.

SEEDBED_SEEDS=127.0.0.1:4684 uvicorn fastapi_app:app
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

import grpc.aio
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel
from thermostat.v1 import thermostat_pb2 as pb
from thermostat.v1 import thermostat_pb2_grpc as pb_grpc

import seedbed

TIMEOUT_S = 5.0
HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, grpc.aio.Channel]]:
    async with seedbed.Client() as channel:  # does not wait for the cluster: calls do
        yield {"entities": channel}


app = FastAPI(lifespan=lifespan)


def entities(request: Request) -> grpc.aio.Channel:
    channel: grpc.aio.Channel = request.state.entities
    return channel


Entities = Annotated[grpc.aio.Channel, Depends(entities)]


class Thermostat(BaseModel):
    device_id: str
    celsius: float
    readings: int


class Reading(BaseModel):
    celsius: float


@app.get("/thermostats/{device_id}")
async def look(device_id: str, channel: Entities) -> Thermostat:
    stub = pb_grpc.ThermostatStub(channel)  # costs microseconds: make it where you use it
    try:
        return view(await stub.Get(pb.DeviceRef(device_id=device_id), timeout=TIMEOUT_S))
    except grpc.aio.AioRpcError as error:
        raise refused(error) from error


@app.post("/thermostats/{device_id}/readings")
async def report(
    device_id: str,
    reading: Reading,
    channel: Entities,
    idempotency_key: Annotated[str, Header()] = "",
) -> Thermostat:
    stub = pb_grpc.ThermostatStub(channel)
    request = pb.Reading(device_id=device_id, celsius=reading.celsius)
    repeat = seedbed.once(idempotency_key) if idempotency_key else ()
    try:
        return view(await stub.Report(request, timeout=TIMEOUT_S, metadata=repeat))
    except grpc.aio.AioRpcError as error:
        raise refused(error) from error


def view(status: pb.Status) -> Thermostat:
    return Thermostat(device_id=status.device_id, celsius=status.celsius, readings=status.readings)


def refused(error: grpc.aio.AioRpcError) -> HTTPException:
    """The entity's own refusal, or Seedbed's: that has a reason."""
    detail = {"message": error.details(), "reason": seedbed.reason(error)}
    return HTTPException(HTTP_STATUS.get(error.code(), 500), detail)
