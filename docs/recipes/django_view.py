"""Django: a blocking view with a plain gRPC channel.

It is an URL configuration too: path("", include("django_view")) in urls.py.
"""

from __future__ import annotations

import os
from functools import cache

import grpc
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from thermostat.v1 import thermostat_pb2 as pb
from thermostat.v1 import thermostat_pb2_grpc as pb_grpc

import seedbed

TIMEOUT_S = 5.0


@cache
def entities() -> grpc.Channel:
    """The process's channel: made at the first call, so after the server has forked."""
    return grpc.insecure_channel(
        os.environ["SEEDBED_ENTRY"],
        options=[("grpc.service_config", seedbed.service_config(pb.DESCRIPTOR))],
    )


def thermostat(request: HttpRequest, device_id: str) -> HttpResponse:
    stub = pb_grpc.ThermostatStub(entities())
    try:
        if request.method == "POST":
            target = pb.Target(device_id=device_id, celsius=float(request.POST["celsius"]))
            status = stub.SetTarget(target, timeout=TIMEOUT_S)
        else:
            status = stub.Get(pb.DeviceRef(device_id=device_id), timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        refusal = error.code() is grpc.StatusCode.INVALID_ARGUMENT
        return JsonResponse({"message": error.details()}, status=400 if refusal else 503)
    return JsonResponse(
        {"device_id": status.device_id, "celsius": status.celsius, "target": status.target_celsius}
    )


urlpatterns = [path("thermostats/<str:device_id>", thermostat)]
