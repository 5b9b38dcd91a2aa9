"""An entity class's events: which there are, and mistakes, named with file and class."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import new_class
from typing import Any, Generic, Never, TypeAlias, TypeVar, Union

import msgspec
import pytest
from probe.v1 import probe_pb2 as pb
from probe.v1 import probe_pb2_grpc as rpc

from seedbed import Entity
from seedbed.entity import AnyEntity
from seedbed.errors import ContractError
from seedbed_worker.loader import host_class
from tests.unit.worker.host_world import Total

T = TypeVar("T")


class Stateless(Entity, rpc.ProbeServicer): ...


@dataclass
class Added:
    name: str


class Removed(msgspec.Struct):
    name: str


class Applies:
    """A mixin: any event will do."""

    def apply(self, event: object) -> None:
        raise NotImplementedError


class Base(Entity[Total, T], Generic[T]):
    """A user's own base, open in its events."""


class OfUnion(Applies, Entity[Total, Added | Removed | pb.Request], rpc.ProbeServicer): ...


class OfOldUnion(Applies, Entity[Total, Union[Added, Removed]], rpc.ProbeServicer): ...  # noqa: UP007


class OfNamed(Applies, Entity[Total, "Changes"], rpc.ProbeServicer): ...


Changes: TypeAlias = Added | Removed


class OfAlias(Applies, Entity[Total, Changes], rpc.ProbeServicer): ...


class OfNestedBase(Applies, Base[Changes], rpc.ProbeServicer): ...


class OfOne(Applies, Entity[Total, Added], rpc.ProbeServicer): ...


class OfNever(Entity[Total, Never], rpc.ProbeServicer): ...


@pytest.mark.parametrize(
    ("cls", "events"),
    [
        (OfUnion, (Added, Removed, pb.Request)),
        (OfOldUnion, (Added, Removed)),
        (OfAlias, (Added, Removed)),
        (OfNestedBase, (Added, Removed)),
        (OfOne, (Added,)),
        (OfNever, ()),
        (Stateless, ()),
    ],
)
def test_the_events_are_those_of_the_union(cls: type[AnyEntity], events: tuple[type, ...]) -> None:
    assert host_class(cls).events == events


class Other:
    @dataclass
    class Total:
        """Is not stored under the name of the state."""


class OfText(Applies, Entity[Total, Added | str], rpc.ProbeServicer): ...


class OfPlainClass(Applies, Entity[Total, Other], rpc.ProbeServicer): ...


class OfGeneric(Applies, Entity[Total, Added | list[int]], rpc.ProbeServicer): ...


@dataclass
class Unclear:
    either: Added | Total


class OfUnclear(Applies, Entity[Total, Unclear], rpc.ProbeServicer): ...


class NoApply(Entity[Total, Added | Removed], rpc.ProbeServicer): ...


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (OfText, "its event str cannot be stored: use a protobuf message, a dataclass or a"),
        (OfPlainClass, "its event Other cannot be stored"),
        (OfGeneric, "one of its events is list[int]: name the classes themselves"),
        (OfNamed, "one of its events is ForwardRef('Changes'): name the classes themselves"),
        (OfUnclear, "it cannot be stored: Unclear cannot be serialised"),
        (NoApply, "it has events (Added, Removed) and no apply()"),
    ],
)
def test_what_cannot_be_an_event_is_refused(cls: type[AnyEntity], expected: str) -> None:
    with pytest.raises(ContractError) as caught:
        host_class(cls)
    text = str(caught.value)
    assert text.startswith(f"{__file__}:{inspect.getsourcelines(cls)[1]}: class {cls.__name__}: ")
    assert expected in text


@pytest.mark.parametrize(("of", "other"), [(Added, "Added"), (Total, "Total")])
def test_two_classes_of_one_name_are_refused(of: type, other: str) -> None:
    twin = type(of.__name__, (of,), {"__module__": "elsewhere"})
    entity: Any = Entity  # no type checker knows what is made here
    bases = (Applies, entity[Total, Added | Removed | twin], rpc.ProbeServicer)
    expected = rf"{of.__module__}\.{other} and elsewhere\.{other} are both stored as {other}"
    with pytest.raises(ContractError, match=expected):
        host_class(new_class("OfTwins", bases))


def test_a_volatile_class_may_have_any_events() -> None:
    class Fleeting(Applies, Entity[Total, Other], rpc.ProbeServicer, durable=False): ...

    assert host_class(Fleeting).events == (Other,)


def test_a_nested_class_is_stored_under_its_qualified_name() -> None:
    class Nested(Applies, Entity[Total, Other.Total], rpc.ProbeServicer): ...

    stored = host_class(Nested).stored
    assert stored is not None
    assert stored.write_event(Other.Total()).name == "Other.Total"
    assert stored.write_state(Total()).name == "Total"
