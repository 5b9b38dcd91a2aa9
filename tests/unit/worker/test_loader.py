"""Finding and checking the user's classes: mistakes are named with file, class and method."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
from probe.v1 import probe_pb2 as pb
from probe.v1 import probe_pb2_grpc as rpc

from seedbed import Entity, ServicerContext
from seedbed.entity import AnyEntity, Factory
from seedbed.errors import ContractError, SettingsError
from seedbed_worker.entity_names import Function, find
from seedbed_worker.hosted import HostedClass
from seedbed_worker.loader import host_class, load
from tests.unit.worker.host_world import Probe, Total
from tests.unit.worker.user_modules import user_modules


def load_names(*names: str) -> list[HostedClass]:
    """What the setting names, where that is classes."""
    factories: list[Factory] = []
    for found in map(find, names):
        assert not isinstance(found, Function)
        factories += found
    return load(factories)


HEADER = """
from probe.v1 import probe_pb2 as pb, probe_pb2_grpc as rpc
from seedbed import Entity
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a module and gives its name."""
    with user_modules(tmp_path, monkeypatch, HEADER) as write:
        yield write


def test_a_module_gives_the_classes_that_it_defines(module: Callable[[str], str]) -> None:
    name = module(
        "from tests.unit.worker.host_world import Probe as Imported\n"
        "class Mine(Entity, rpc.ProbeServicer):\n"
        "    async def Write(self, request, context): return pb.Reply()\n"
        "class Helper(Entity): pass\n"
    )
    (one,) = load_names(name)
    assert one.name == f"{name}:Mine"
    assert one.contract.type == "probe"
    assert load_names(name, f"{name}:Mine")[0].factory is one.factory


def test_what_a_host_needs_is_found() -> None:
    one = host_class(Probe)
    assert one.service.full_name == "probe.v1.Probe"
    write, watch = one.methods["/probe.v1.Probe/Write"], one.methods["/probe.v1.Probe/Watch"]
    assert write.unary is Probe.Write
    assert write.stream is None
    assert watch.stream is Probe.Watch
    assert (write.request, write.response) == (pb.Request, pb.Reply)
    assert write.contract.read_only is False
    assert watch.contract.read_only is True
    assert one.state() == Total()
    assert (one.has_activated, one.has_deactivating) == (False, False)
    assert one.durable is False


def test_methods_that_are_not_implemented_are_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        one = host_class(Probe)
    missing = one.methods["/probe.v1.Probe/Missing"]
    assert missing.unary is None
    warning = next(
        record for record in caplog.records if record.message == "method not implemented"
    )
    assert vars(warning)["method"] == "Missing"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "    def Write(self, request, context): return pb.Reply()",
            "Mine.Write must be `async def`",
        ),
        (
            "    async def Write(self, request, context):\n        yield pb.Reply()",
            "must be `async def` without `yield`",
        ),
        (
            "    async def Watch(self, request, context): return None",
            "Mine.Watch streams, so it must be an async generator",
        ),
        (
            "    def __init__(self, pool): pass",
            ":entities, made by @contextlib.asynccontextmanager, with `yield"
            " [functools.partial(Mine, …)]`",
        ),
    ],
)
def test_a_class_that_cannot_run_is_refused_with_its_place(
    module: Callable[[str], str], body: str, expected: str
) -> None:
    name = module(f"class Mine(Entity, rpc.ProbeServicer):\n{body}\n")
    with pytest.raises(ContractError) as caught:
        load_names(name)
    text = str(caught.value)
    assert expected in text
    assert f"{name}.py:" in text
    assert "Mine" in text


def test_an_rpc_named_like_an_attribute_of_entity_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Entity, "Read", None, raising=False)
    with pytest.raises(ContractError, match="Read is an attribute of Entity"):
        host_class(Probe)


def test_a_class_without_a_service_is_refused(module: Callable[[str], str]) -> None:
    name = module("class Mine(Entity): pass\n")
    with pytest.raises(ContractError, match="0 generated servicers"):
        load_names(f"{name}:Mine")
    with pytest.raises(SettingsError, match="defines no entity class"):
        load_names(name)


def test_two_classes_of_one_type_are_refused(module: Callable[[str], str]) -> None:
    name = module(
        "class One(Entity, rpc.ProbeServicer): pass\nclass Two(Entity, rpc.ProbeServicer): pass\n"
    )
    with pytest.raises(ContractError, match="a type is one class"):
        load_names(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_such_module", "SEEDBED_ENTITIES: no module 'no_such_module'"),
        ("seedbed.no_such", "SEEDBED_ENTITIES: no module 'seedbed.no_such'"),
        ("seedbed.entity:Missing", "is nothing, expected a class derived from Entity"),
        ("seedbed.entity:S", "is TypeVar, expected"),
    ],
)
def test_a_name_that_leads_nowhere_is_a_setting_error(name: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_names(name)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import not_installed_anywhere", "No module named 'not_installed_anywhere'"),
        ("1/0", "raises ZeroDivisionError: division by zero"),
        ("def broken(:", "raises SyntaxError"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(
    module: Callable[[str], str], text: str, expected: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_names(module(text))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


# States.

T = TypeVar("T")


class Base(Entity[T], Generic[T]):
    """A user's own generic base."""


class OfBase(Base[Total], rpc.ProbeServicer): ...


class Derived(OfBase): ...


class Stateless(Entity, rpc.ProbeServicer): ...


class NoneState(Entity[None], rpc.ProbeServicer): ...


class WithEvents(Entity[pb.Reply, pb.Request], rpc.ProbeServicer):
    def apply(self, event: pb.Request) -> None:
        self.state.total += event.amount


class OfDict(Entity[dict[str, int]], rpc.ProbeServicer, durable=False): ...


@pytest.mark.parametrize(
    ("cls", "fresh"),
    [
        (OfBase, Total()),
        (Derived, Total()),
        (Stateless, None),
        (NoneState, None),
        (WithEvents, pb.Reply()),
        (OfDict, {}),
    ],
)
def test_the_state_is_made_from_the_generic_base(cls: type[AnyEntity], fresh: object) -> None:
    state = host_class(cls).state
    assert state() == fresh
    if fresh is not None:
        assert state() is not state()


@dataclass
class Needs:
    value: int


class NeedsArguments(Entity[Needs], rpc.ProbeServicer): ...


def test_a_state_that_needs_arguments_is_refused() -> None:
    with pytest.raises(ContractError, match="give every field a default"):
        host_class(NeedsArguments)


def test_a_base_that_leaves_its_type_open_is_refused() -> None:
    class Open(Base[Any], rpc.ProbeServicer):
        async def Watch(
            self, request: pb.Request, context: ServicerContext
        ) -> AsyncIterator[pb.Reply]:
            yield pb.Reply()

    with pytest.raises(ContractError, match="state"):
        host_class(Open)
