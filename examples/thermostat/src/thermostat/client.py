"""A plain gRPC client: nothing of Seedbed but the generated code.

python -m thermostat.client report kitchen 19.5
python -m thermostat.client target kitchen 21
python -m thermostat.client get kitchen
python -m thermostat.client watch kitchen
"""

from __future__ import annotations

import argparse
import sys

import grpc

from thermostat.v1 import thermostat_pb2 as pb
from thermostat.v1 import thermostat_pb2_grpc as pb_grpc

TIMEOUT_S = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description="Talk to a thermostat.")
    parser.add_argument("command", choices=["report", "target", "get", "watch"])
    parser.add_argument("device")
    parser.add_argument("celsius", type=float, nargs="?", default=20.0)
    parser.add_argument("--entry", default="127.0.0.1:4684", help="a seed, host:port")
    arguments = parser.parse_args()
    device: str = arguments.device
    celsius: float = arguments.celsius

    with grpc.insecure_channel(arguments.entry) as channel:
        stub = pb_grpc.ThermostatStub(channel)
        try:
            match arguments.command:
                case "report":
                    reading = pb.Reading(device_id=device, celsius=celsius)
                    show(stub.Report(reading, timeout=TIMEOUT_S))
                case "target":
                    target = pb.Target(device_id=device, celsius=celsius)
                    show(stub.SetTarget(target, timeout=TIMEOUT_S))
                case "get":
                    show(stub.Get(pb.DeviceRef(device_id=device), timeout=TIMEOUT_S))
                case _:
                    watch(stub, device)
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 0
    return 0


def watch(stub: pb_grpc.ThermostatStub, device: str) -> None:
    """Show each status; when the entity moves, its stream ends UNAVAILABLE and is opened again."""
    while True:
        try:
            for status in stub.Watch(pb.DeviceRef(device_id=device), wait_for_ready=True):
                show(status)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise


def show(status: pb.Status) -> None:
    """Print a status as one line."""
    print(
        f"{status.device_id}: {status.celsius:g} °C, target {status.target_celsius:g} °C,"
        f" heating {'on' if status.heating else 'off'}, {status.readings} readings"
        f" (worker {status.worker})",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
