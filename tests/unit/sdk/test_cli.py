"""`seedbed` shows and calls a cluster; what it prints and its exit codes are an interface."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_reflection.v1alpha import reflection
from thermostat.v1 import thermostat_pb2 as pb
from thermostat.v1 import thermostat_pb2_grpc as pb_grpc
from typer.testing import CliRunner, Result

from seedbed.cli.app import app
from seedbed.cli.jsonform import to_json
from seedbed.cli.reflection import Reflection
from seedbed.cli.sample import sample
from seedbed.v1 import admin_pb2_grpc, store_pb2
from tests.unit.sdk.fake_admin import Admin

THERMOSTAT = "thermostat.v1.Thermostat"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"


class Thermostat(pb_grpc.ThermostatServicer):
    """A thermostat without a cluster."""

    def Report(self, request: pb.Reading, context: grpc.ServicerContext) -> pb.Status:
        return pb.Status(device_id=request.device_id, celsius=request.celsius)

    def Get(self, request: pb.DeviceRef, context: grpc.ServicerContext) -> pb.Status:
        status = Status(code=grpc.StatusCode.UNAVAILABLE.value[0])
        status.details.add().Pack(ErrorInfo(domain="seedbed", reason="NO_WORKERS"))
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "nobody hosts it")

    def SetTarget(self, request: pb.Target, context: grpc.ServicerContext) -> pb.Status:
        return pb.Status(device_id=request.device_id, target_celsius=request.celsius)

    def Retire(self, request: pb.DeviceRef, context: grpc.ServicerContext) -> pb.Status:
        return pb.Status(device_id=request.device_id)

    def Watch(self, request: pb.DeviceRef, context: grpc.ServicerContext) -> Iterator[pb.Status]:
        owner = dict(context.invocation_metadata()).get("owner", "")
        yield pb.Status(device_id=request.device_id, worker=str(owner))
        yield pb.Status(device_id=request.device_id, celsius=1.5)


@pytest.fixture(scope="module")
def seed() -> Generator[str]:
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    admin_pb2_grpc.add_AdminServicer_to_server(Admin(), server)
    pb_grpc.add_ThermostatServicer_to_server(Thermostat(), server)
    names = ("seedbed.v1.Admin", THERMOSTAT, REFLECTION)
    # It has no types.
    reflection.enable_server_reflection(  # type: ignore[no-untyped-call]
        names, server, descriptor_pool.Default()
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait(10)


async def test_a_watch_shows_changes_until_ctrl_c(
    seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "seedbed.cli", "members"),
        *("--watch", "-o", "json", "--seed", seed),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        first = json.loads(await process.stdout.readline())
        monkeypatch.setattr(Admin, "shards", 7)
        second = json.loads(await process.stdout.readline())
        process.send_signal(signal.SIGINT)
        rest, errors = await process.communicate()
    assert [first["members"][0]["shards"], second["members"][0]["shards"]] == [1024, 7]
    assert (rest, errors, process.returncode) == (b"", b"", 0)


def run(arguments: Sequence[str], seed: str = "") -> Result:
    return CliRunner().invoke(app, [*arguments, *(["--seed", seed] if seed else [])])


def answer(arguments: Sequence[str], seed: str) -> object:
    """The JSON that a command prints."""
    result = run([*arguments, "-o", "json"], seed)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def refusal(arguments: Sequence[str], seed: str) -> tuple[int, dict[str, str]]:
    """Exit code and what a failing command prints to stderr as JSON."""
    result = run([*arguments, "-o", "json"], seed)
    assert result.stdout == ""
    body: dict[str, str] = json.loads(result.stderr)
    assert list(body) == ["code", "reason", "message"]
    return result.exit_code, body


def test_status_is_the_whole_message_with_its_defaults(seed: str) -> None:
    assert answer(["status"], seed) == {
        "cluster": "default",
        "coordinator": "seed-1",
        "types": [{"type": "thermostat", "shard_count": 1024, "generation": 2**53, "workers": 0}],
        "frozen": False,
        "frozen_reason": "",
    }


def test_members_have_enums_without_prefix(seed: str) -> None:
    shown = answer(["members"], seed)
    assert isinstance(shown, dict)
    assert shown["members"] == [
        {
            "node_id": "worker-1",
            "incarnation": "",
            "role": "WORKER",
            "status": "UP",
            "roles": [],
            "zone": "",
            "app_version": "",
            "host": "127.0.0.1",
            "port": 4685,
            "shards": 1024,
            "coordinator": False,
            "cordoned": False,
        }
    ]


def test_shards_have_exact_epochs(seed: str) -> None:
    shown = answer(["shards", "thermostat"], seed)
    assert isinstance(shown, dict)
    assert shown["shards"][0]["epoch"] == 2**53 + 1
    assert shown["shards"][0]["phase"] == "OWNED"
    assert shown["shards"][1]["owner"] == ""


def test_listings_are_tables_for_people(seed: str) -> None:
    assert "coordinator seed-1" in run(["status"], seed).stdout
    assert "127.0.0.1:4685" in run(["members"], seed).stdout
    assert "none" in run(["shards"], seed).stdout
    assert str(2**53 + 1) in run(["shards", "thermostat"], seed).stdout


def test_an_unknown_type_is_refused(seed: str) -> None:
    code, body = refusal(["shards", "other"], seed)
    assert code == 1
    assert body["code"] == "NOT_FOUND"
    assert "thermostat" in body["message"]


def test_a_unary_call_prints_its_reply(seed: str) -> None:
    request = '{"device_id": "kitchen", "celsius": 20.5}'
    assert answer(["call", f"{THERMOSTAT}/Report", request], seed) == {
        "device_id": "kitchen",
        "celsius": 20.5,
        "target_celsius": 0.0,
        "readings": 0,
        "heating": False,
        "worker": "",
        "online": False,
    }
    text = run(["call", f"{THERMOSTAT}/Report", '{"deviceId": "kitchen"}'], seed).stdout
    assert '\n  "device_id": "kitchen",\n' in text


def test_a_stream_prints_one_object_a_line(seed: str) -> None:
    arguments = ["call", f"{THERMOSTAT}/Watch", '{"device_id": "a"}', "-H", "Owner: ann"]
    result = run([*arguments, "-o", "json"], seed)
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["worker"], second["celsius"]) == ("ann", 1.5)


def test_a_request_may_come_from_stdin(seed: str) -> None:
    arguments = ["call", f"{THERMOSTAT}/Report", "-", "--seed", seed, "-o", "json"]
    result = CliRunner().invoke(app, arguments, input='{"device_id": "in"}')
    assert json.loads(result.stdout)["device_id"] == "in"


def test_a_refused_call_shows_code_reason_and_message(seed: str) -> None:
    arguments = ["call", f"{THERMOSTAT}/Get", '{"device_id": "a"}']
    assert refusal(arguments, seed) == (
        1,
        {"code": "UNAVAILABLE", "reason": "NO_WORKERS", "message": "nobody hosts it"},
    )
    shown = run(arguments, seed).stderr
    assert shown == "seedbed: UNAVAILABLE: nobody hosts it (NO_WORKERS)\n"


@pytest.mark.parametrize(
    ("method", "request_json", "code"),
    [
        ("Thermostat", "{}", 2),
        (f"{THERMOSTAT}/", "{}", 2),
        (f"{THERMOSTAT}/Report", "{", 2),
        (f"{THERMOSTAT}/Report", '{"other": 1}', 2),
        (f"{THERMOSTAT}/Report", "[]", 2),
        (f"{THERMOSTAT}/Other", "{}", 1),
        ("other.v1.Service/Get", "{}", 1),
    ],
)
def test_a_wrong_call_is_told_from_a_refused_one(
    seed: str, method: str, request_json: str, code: int
) -> None:
    assert refusal(["call", method, request_json], seed)[0] == code


@pytest.mark.parametrize(
    "arguments",
    [["other"], ["members", "--nothing"], ["members", "-o", "xml"], ["call"]],
)
def test_a_wrong_command_line_is_code_2(arguments: list[str]) -> None:
    assert run(arguments).exit_code == 2


def test_a_wrong_header_or_seed_is_code_2(seed: str) -> None:
    arguments = ["call", f"{THERMOSTAT}/Report", "{}"]
    assert run([*arguments, "-H", "x"], seed).exit_code == 2
    assert "--seed: found 'nowhere'" in run(["status"], "nowhere").stderr
    assert run(["status"], "nowhere").exit_code == 2


def test_a_cluster_that_does_not_answer_is_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seedbed.cli.connection.CONNECT_LIMIT_S", 0.3)
    code, body = refusal(["status"], "127.0.0.1:9")
    assert code == 3
    assert body["message"] == "no seed answers at 127.0.0.1:9"


def test_the_next_seed_is_tried(seed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seedbed.cli.connection.CONNECT_LIMIT_S", 0.3)
    assert run(["status"], f"127.0.0.1:9,{seed}").exit_code == 0


def test_seeds_come_from_the_environment(seed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDBED_SEEDS", seed)
    result = run(["status"])
    assert result.exit_code == 0, result.output


def test_no_command_shows_the_help() -> None:
    result = run([])
    assert result.exit_code == 0
    assert "members" in result.stdout


def test_a_call_to_try_is_made_up_from_reflection(seed: str) -> None:
    with grpc.insecure_channel(seed) as channel:
        found = sample(Reflection(channel), seed)
    assert found is not None
    request = '{"device_id": "demo", "celsius": 20.5}'
    assert found.seedbed() == f"seedbed call {THERMOSTAT}/Report '{request}' --seed {seed}"
    assert found.grpcurl() == f"grpcurl -plaintext -d '{request}' {seed} {THERMOSTAT}/Report"


def test_bytes_are_base64_and_unset_messages_are_left_out() -> None:
    shown = to_json(store_pb2.MemberRecord(secret_hash=b"\x00\xff", lease_id=-(2**62)))
    assert isinstance(shown, dict)
    assert shown["secret_hash"] == "AP8="
    assert shown["lease_id"] == -(2**62)
    assert "member" not in shown


def test_without_the_extra_the_install_line_is_shown() -> None:
    program = (
        "import sys, importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'typer' else find(name, *a)\n"
        "import seedbed.cli; seedbed.cli.main()\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert run.returncode == 2
    assert "pip install 'CHECKOUT[cli,gen,testing]'" in run.stderr
