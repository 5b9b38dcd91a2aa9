"""`seedbed`'s commands for operators: what they ask, print, and end with."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.message import Message
from typer.testing import CliRunner, Result

from seedbed.cli import asking
from seedbed.cli import operations as commands
from seedbed.cli.app import app
from seedbed.v1 import admin_pb2, admin_pb2_grpc
from tests.unit.sdk.fake_admin import Admin


@pytest.fixture
def seed(monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    for name in ("asked", "left", "lives"):
        monkeypatch.setattr(Admin, name, [])
    monkeypatch.setattr(asking, "WATCH_PERIOD_S", 0.01)
    monkeypatch.setattr(commands, "RETRY_S", 0.01)
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    admin_pb2_grpc.add_AdminServicer_to_server(Admin(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait(10)


def run(seed: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--seed", seed])


@pytest.mark.parametrize(
    ("arguments", "request_", "words"),
    [
        (["drain", "worker-1"], admin_pb2.DrainRequest(node_id="worker-1"), "draining, 0 shards"),
        (["cordon", "worker-1"], admin_pb2.CordonRequest(node_id="worker-1"), "UP, cordoned"),
        (["uncordon", "worker-1"], admin_pb2.UncordonRequest(node_id="worker-1"), "worker-1: UP,"),
        (
            ["move", "cup", "3,7-9", "worker-1"],
            admin_pb2.MoveShardsRequest(type="cup", shards=[3, 7, 8, 9], node_id="worker-1"),
            "worker-1",
        ),
        (
            ["pin", "cup", "3", "worker-1"],
            admin_pb2.PinShardsRequest(type="cup", shards=[3], node_id="worker-1"),
            "PINNED TO",
        ),
        (
            ["unpin", "cup", "3-4"],
            admin_pb2.PinShardsRequest(type="cup", shards=[3, 4]),
            "PINNED TO",
        ),
        (["rebalance", "--plan"], admin_pb2.RebalanceRequest(), "would move cup 3 from worker-1"),
        (["rebalance", "--apply"], admin_pb2.RebalanceRequest(apply=True), "moving cup 3"),
        (["freeze", "lunch"], admin_pb2.FreezeRequest(reason="lunch"), "frozen"),
        (["freeze"], admin_pb2.FreezeRequest(), "frozen"),
        (["unfreeze"], admin_pb2.UnfreezeRequest(), "goes on"),
    ],
)
def test_an_order_is_sent_and_its_answer_shown(
    seed: str, arguments: Sequence[str], request_: Message, words: str
) -> None:
    shown = run(seed, *arguments)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert words in shown.stdout
    as_json = run(seed, *arguments, "-o", "json")
    assert as_json.exit_code == 0
    assert as_json.stdout.count("\n") == 1
    assert isinstance(json.loads(as_json.stdout), dict)
    assert Admin.asked == [request_, request_]


def test_the_json_is_the_response_message(seed: str) -> None:
    assert json.loads(run(seed, "rebalance", "--plan", "-o", "json").stdout) == {
        "moves": [{"type": "cup", "shard": 3, "from_node": "worker-1", "to_node": "worker-2"}],
        "applied": False,
        "held_back": "frozen: lunch",
        "types": [{"type": "cup", "before": 1.0, "after": 0.5}],
    }
    assert json.loads(run(seed, "freeze", "-o", "json").stdout) == {}


def test_a_drain_is_watched_until_nothing_is_left(seed: str) -> None:
    Admin.left += [7, 7, 3, 0]
    shown = run(seed, "drain", "worker-1", "--watch", "-o", "json")
    assert shown.exit_code == 0
    answers = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [answer["member"]["shards"] for answer in answers] == [7, 3, 0]
    assert [answer["note"] for answer in answers] == ["nowhere to go", "nowhere to go", ""]


def test_a_drain_with_nowhere_to_go_says_so(seed: str) -> None:
    Admin.left += [7, 7]
    assert run(seed, "drain", "worker-1").stdout == (
        "worker-1: draining, 7 shards left\nnowhere to go\n"
    )


@pytest.mark.parametrize("verb", ["drain", "cordon", "uncordon"])
def test_a_refused_order_is_code_1(seed: str, verb: str) -> None:
    refused = run(seed, verb, "other", "-o", "json")
    assert refused.exit_code == 1
    body = json.loads(refused.stderr)
    assert (body["code"], body["message"]) == ("INVALID_ARGUMENT", "no worker 'other'")


@pytest.mark.parametrize(
    "arguments",
    [
        ["drain"],
        ["move", "cup", "3"],
        ["move", "cup", "x", "worker-1"],
        ["move", "cup", "9-7", "worker-1"],
        ["move", "cup", "3,", "worker-1"],
        ["move", "cup", "-3", "worker-1"],
        ["move", "cup", "0-99999999", "worker-1"],
        ["pin", "cup", "3", ""],
        ["unpin", "cup", "x"],
        ["rebalance"],
        ["rebalance", "--plan", "--apply"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_code_2_and_orders_nothing(
    seed: str, arguments: Sequence[str]
) -> None:
    assert run(seed, *arguments).exit_code == 2
    assert not Admin.asked


def test_a_cluster_that_does_not_answer_is_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seedbed.cli.connection.CONNECT_LIMIT_S", 0.2)
    assert run("127.0.0.1:9", "drain", "worker-1").exit_code == 3
    assert run("127.0.0.1:9", "events").exit_code == 3


def test_events_go_on_over_a_restart_which_is_said_once(seed: str) -> None:
    def event(time_ms: int, message: str) -> admin_pb2.Event:
        return admin_pb2.Event(time_ms=time_ms, kind=admin_pb2.EVENT_KIND_MEMBER, message=message)

    # Two seeds end at once, which is not said anew. The next one tells again what the first has
    # told; the last one has nothing new.
    first, second = event(1000, "w-1 up"), event(2000, "w-2 up")
    Admin.lives += [[first, first], [], [], [first, second], [second]]
    shown = run(seed, "events", "-o", "json")
    assert shown.exit_code == 1, "refused at last"
    assert [json.loads(line)["message"] for line in shown.stdout.splitlines()] == [
        *("w-1 up", "w-1 up"),
        "w-2 up",
    ]
    codes = [json.loads(line)["code"] for line in shown.stderr.splitlines()]
    assert codes == ["UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE", "INVALID_ARGUMENT"]


def test_an_event_is_a_line_for_people(seed: str) -> None:
    Admin.lives += [[admin_pb2.Event(time_ms=1005, kind=admin_pb2.EVENT_KIND_MOVED, message="m")]]
    (line,) = run(seed, "events").stdout.splitlines()
    assert line.split()[0].endswith(".005")
    assert line.split()[1:] == ["MOVED", "m"]
