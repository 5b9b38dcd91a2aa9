"""States and attributes that instances would share, and states that cannot be kept."""

from __future__ import annotations

import inspect
from asyncio import Lock
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Final

import msgspec
import pytest
from probe.v1 import probe_pb2 as pb
from probe.v1 import probe_pb2_grpc as rpc

from seedbed import Entity
from seedbed.entity import AnyEntity
from seedbed.errors import ContractError
from seedbed_worker.loader import host_class, load


@dataclass
class Basket:
    items: list[str] = field(default_factory=list[str])


@dataclass
class Sharing:
    """Its attribute without annotation is no field."""

    count: int = 0
    items = ["bread"]  # noqa: RUF012  the mistake


_ONE_LIST = ["bread"]


@dataclass
class SharingByFactory:
    items: list[str] = field(default_factory=lambda: _ONE_LIST)


class PlainSharing:
    seen: set[str] = set()  # noqa: RUF012  the mistake


@dataclass(slots=True)
class Slotted:
    items: list[str] = field(default_factory=lambda: _ONE_LIST)


class Struct(msgspec.Struct):
    items: list[str] = []


class Plain:
    def __init__(self) -> None:
        self.items: list[str] = []

    @property
    def broken(self) -> str:
        raise RuntimeError("nobody may look")


class ListHolder(Entity[Basket], rpc.ProbeServicer):
    items = ["bread"]  # noqa: RUF012  the mistake


class DictHolder(Entity[Basket], rpc.ProbeServicer):
    prices: dict[str, int] = {}  # noqa: RUF012  the mistake


class MessageHolder(Entity[Basket], rpc.ProbeServicer):
    last = pb.Reply()


class StateHolder(Entity[Basket], rpc.ProbeServicer):
    basket = Basket()


class DequeHolder(Entity[Basket], rpc.ProbeServicer):
    recent: deque[int] = deque()  # noqa: RUF012  the mistake


class BytesHolder(Entity[Basket], rpc.ProbeServicer):
    buffer = bytearray()


class Mixin:
    seen: set[str] = set()  # noqa: RUF012  the mistake


class SetHolder(Entity[Basket], rpc.ProbeServicer, Mixin): ...


@pytest.mark.parametrize(
    ("cls", "owner", "attribute"),
    [
        (ListHolder, ListHolder, "items is one list"),
        (DictHolder, DictHolder, "prices is one dict"),
        (MessageHolder, MessageHolder, "last is one Reply"),
        (StateHolder, StateHolder, "basket is one Basket"),
        (DequeHolder, DequeHolder, "recent is one deque"),
        (BytesHolder, BytesHolder, "buffer is one bytearray"),
        (SetHolder, Mixin, "seen is one set"),
    ],
)
def test_a_mutable_attribute_of_the_class_is_refused_with_its_line(
    cls: type[AnyEntity], owner: type, attribute: str
) -> None:
    with pytest.raises(ContractError) as caught:
        host_class(cls)
    line = inspect.getsourcelines(owner)[1] + 1
    text = str(caught.value)
    assert text.startswith(f"{__file__}:{line}: class {owner.__name__}: {attribute}")
    assert "ClassVar" in text


def test_what_is_shared_on_purpose_or_cannot_change_is_taken() -> None:
    class Shop(Entity[Basket], rpc.ProbeServicer):
        prices: ClassVar[dict[str, int]] = {"bread": 3}
        limits: Final = [1, 2]
        names = ("bread", "milk")
        allowed = frozenset({"bread"})

    assert host_class(Shop).cls is Shop


class OfSharing(Entity[Sharing], rpc.ProbeServicer): ...


class OfSharingByFactory(Entity[SharingByFactory], rpc.ProbeServicer): ...


class OfSlotted(Entity[Slotted], rpc.ProbeServicer): ...


class OfPlainSharing(Entity[PlainSharing], rpc.ProbeServicer, durable=False): ...


@pytest.mark.parametrize(
    ("cls", "state", "expected"),
    [
        (OfSharing, Sharing, "items is one list for all states of OfSharing"),
        (OfSharingByFactory, SharingByFactory, "items is one list for all states of"),
        (OfSlotted, Slotted, "items is one list for all states of"),
        (OfPlainSharing, PlainSharing, "seen is one set for all states of OfPlainSharing"),
    ],
)
def test_a_state_whose_instances_share_something_is_refused(
    cls: type[AnyEntity], state: type, expected: str
) -> None:
    with pytest.raises(ContractError) as caught:
        host_class(cls)
    text = str(caught.value)
    assert expected in text
    assert text.startswith(f"{__file__}:")
    assert f"class {state.__name__}: " in text
    assert "default_factory" in text


class OfPlain(Entity[Plain], rpc.ProbeServicer): ...


class OfDict(Entity[dict[str, int]], rpc.ProbeServicer): ...


class OfText(Entity[str], rpc.ProbeServicer): ...


@pytest.mark.parametrize("cls", [OfPlain, OfDict, OfText])
def test_a_durable_class_needs_a_state_that_can_be_kept(cls: type[AnyEntity]) -> None:
    with pytest.raises(ContractError) as caught:
        host_class(cls)
    text = str(caught.value)
    assert f"class {cls.__name__}: its state is" in text
    assert "a protobuf message, a dataclass, a msgspec.Struct or None" in text
    assert "durable=False" in text


NO_NUMBER: Any = "none"  # as from a file: no type checker has seen it


@dataclass
class WithLock:
    basket: Basket = field(default_factory=Basket)
    lock: Lock = field(default_factory=Lock)


@dataclass
class WrongDefault:
    count: int = NO_NUMBER


class OfLock(Entity[WithLock], rpc.ProbeServicer): ...


class OfWrongDefault(Entity[WrongDefault], rpc.ProbeServicer): ...


@pytest.mark.parametrize(
    ("cls", "expected"),
    [(OfLock, "self.state.lock is of type Lock"), (OfWrongDefault, "self.state.count")],
)
def test_a_state_with_a_part_that_cannot_be_kept_is_refused(
    cls: type[AnyEntity], expected: str
) -> None:
    with pytest.raises(ContractError) as caught:
        host_class(cls)
    text = str(caught.value)
    assert text.startswith(f"{__file__}:{inspect.getsourcelines(cls)[1]}: class {cls.__name__}")
    assert expected in text
    assert "durable=False" in text


class OfBasket(Entity[Basket], rpc.ProbeServicer): ...


class OfStruct(Entity[Struct], rpc.ProbeServicer): ...


class OfMessage(Entity[pb.Reply], rpc.ProbeServicer): ...


class OfNothing(Entity, rpc.ProbeServicer): ...


class Volatile(Entity[Plain], rpc.ProbeServicer, durable=False): ...


@pytest.mark.parametrize("cls", [OfBasket, OfStruct, OfMessage, OfNothing, Volatile])
def test_these_states_are_taken(cls: type[AnyEntity]) -> None:
    assert host_class(cls).name.endswith(cls.__name__)


# Factories.


class Shop(Entity[Basket], rpc.ProbeServicer):
    def __init__(self, name: str, *, open_: bool = True) -> None:
        self.name = name


# As the setting gives it: no type checker has seen what is wrong with it.
SHOP: Any = Shop


def test_a_partial_is_a_factory_of_its_class() -> None:
    one = host_class(partial(SHOP, "corner"))
    assert (one.cls, one.name) == (Shop, f"{__name__}:Shop")
    made = one.factory()
    assert isinstance(made, Shop)
    assert made.name == "corner"


def test_a_class_that_needs_arguments_is_shown_how_to_get_them() -> None:
    with pytest.raises(ContractError) as caught:
        host_class(partial(SHOP))
    assert "class Shop: its functools.partial does not fit: missing" in str(caught.value)
    with pytest.raises(ContractError) as caught:
        load([SHOP])
    text = str(caught.value)
    assert text.startswith(f"{__file__}:{inspect.getsourcelines(Shop)[1]}: class Shop: __init__")
    assert f"SEEDBED_ENTITIES={__name__}:entities" in text
    assert "functools.partial(Shop, …)" in text


def test_a_type_has_one_factory() -> None:
    with pytest.raises(ContractError, match=r"given by two factories .* a type has one factory"):
        load([partial(SHOP, "one"), partial(SHOP, "two")])
    with pytest.raises(ContractError, match="a type is one class"):
        load([partial(SHOP, "one"), OfBasket])
    assert len(load([OfBasket, OfBasket])) == 1


def test_what_is_no_factory_is_refused() -> None:
    with pytest.raises(ContractError, match="is no factory: give an entity class"):
        host_class(lambda: SHOP("one"))
