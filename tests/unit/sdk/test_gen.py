"""`seedbed gen`: what it writes, and what it refuses with file and line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from seedbed.cli import protoc
from seedbed.cli.app import app

SHOP = """\
syntax = "proto3";
package shop.v1;
import "seedbed/v1/options.proto";
import "shop/v1/items.proto";

service Shop {
  option (seedbed.v1.entity) = {type: "shop"};
  rpc Buy(Order) returns (Item);
  rpc Show(Order) returns (stream Item);
}

message Order {
  string id = 1 [(seedbed.v1.key) = true];
  Inner inner = 2;
  message Inner {
    string name = 1;
  }
}
"""
ITEMS = """\
syntax = "proto3";
package shop.v1;
message Item { string name = 1; }
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's project."""
    monkeypatch.chdir(tmp_path)
    write("proto/shop/v1/shop.proto", SHOP)
    write("proto/shop/v1/items.proto", ITEMS)
    return tmp_path


def write(name: str, text: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def gen() -> Result:
    return CliRunner().invoke(app, ["gen", "proto", "--out", "made"])


def written() -> set[str]:
    return {path.as_posix() for path in Path("made").rglob("*") if path.is_file()}


def test_modules_and_typed_stubs_are_written_and_can_be_imported() -> None:
    # A copy of our own file is no reason to generate it beside the package's module.
    options = Path(protoc.__file__).parents[1] / "v1" / "options.proto"
    write("proto/seedbed/v1/options.proto", options.read_text())
    done = gen()
    assert done.exit_code == 0, done.output
    assert "entity type shop: service shop.v1.Shop" in done.output
    assert written() == {
        f"made/shop/v1/{name}_pb2{kind}"
        for name in ("shop", "items")
        for kind in (".py", ".pyi", "_grpc.py", "_grpc.pyi")
    }
    assert "def Buy(" in Path("made/shop/v1/shop_pb2_grpc.pyi").read_text()
    program = (
        "from shop.v1 import shop_pb2, shop_pb2_grpc\n"
        "from seedbed import Entity\n"
        "from seedbed_worker.loader import host_class\n"
        "class Shop(Entity, shop_pb2_grpc.ShopServicer): pass\n"
        "print(host_class(Shop).contract.type)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": "made"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout == "shop\n", ended.stderr


def test_what_stood_there_is_replaced_and_the_rest_stays() -> None:
    write("made/shop/__init__.py", "mine")
    write("made/shop/v1/shop_pb2.py", "old")
    assert gen().exit_code == 0
    assert Path("made/shop/__init__.py").read_text() == "mine"
    assert "ShopServicer" in Path("made/shop/v1/shop_pb2_grpc.py").read_text()
    assert Path("made/shop/v1/shop_pb2.py").read_text() != "old"


@pytest.mark.parametrize(
    ("old", "new", "line", "expected"),
    [
        (
            "[(seedbed.v1.key) = true]",
            "",
            12,
            "method shop.v1.Shop.Buy: its request shop.v1.Order (shop/v1/shop.proto) has no key:"
            " mark one",
        ),
        (
            "string name = 1;",
            "string name = 1 [(seedbed.v1.key) = true];",
            16,
            "has more than one key, id and inner.name: leave one",
        ),
        (
            "Show(Order)",
            "Show(stream Order)",
            9,
            "method shop.v1.Shop.Show streams from the client",
        ),
        (
            "rpc Show",
            "rpc save",
            9,
            "method shop.v1.Shop.save: save is an attribute of Entity: give the RPC another name",
        ),
        ('"shop"', '"Shop"', 6, "service shop.v1.Shop: entity type 'Shop': name it with"),
        ("Inner inner = 2;", "Inner inner;", 14, "Missing field number"),
    ],
)
def test_a_mistake_is_told_with_file_and_line_and_nothing_is_written(
    old: str, new: str, line: int, expected: str
) -> None:
    write("proto/shop/v1/shop.proto", SHOP.replace(old, new))
    done = gen()
    assert done.exit_code == 1
    assert "nothing was written" in done.output
    [told] = [text for text in done.output.splitlines() if text.startswith("proto/")]
    assert told.startswith(f"proto/shop/v1/shop.proto:{line}:")
    assert expected in told
    assert not Path("made").exists()


def test_two_services_of_one_type_are_both_named() -> None:
    other = SHOP.replace("shop.v1", "other.v1").replace("shop/v1/items.proto", "other/v1/i.proto")
    write("proto/other/v1/other.proto", other)
    write("proto/other/v1/i.proto", ITEMS.replace("shop", "other"))
    done = gen()
    assert done.exit_code == 1
    assert "entity type shop is also service" in done.output


def test_without_the_extra_the_command_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protoc, "missing", lambda: ["grpcio-tools"])
    done = gen()
    assert done.exit_code == 2
    assert "grpcio-tools not installed; run: pip install" in done.output
    assert "gen" in done.output.partition("pip install")[2]


def test_a_folder_without_protos_is_wrong_usage() -> None:
    done = CliRunner().invoke(app, ["gen", "made", "--out", "made"])
    assert done.exit_code == 2
    assert "no .proto file in made" in done.output
