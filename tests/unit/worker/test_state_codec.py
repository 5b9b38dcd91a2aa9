"""States as bytes and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe.v1 import probe_pb2 as pb
from typing_extensions import TypedDict

from seedbed.errors import StateError
from seedbed_worker.state_codec import codec_of, codec_of_class


@dataclass
class Line:
    item: str
    amount: int = 1


@dataclass
class Cart:
    lines: list[Line] = field(default_factory=list[Line])
    prices: dict[str, float] = field(default_factory=dict[str, float])
    tags: set[str] = field(default_factory=set[str])
    owner: str | None = None
    since: datetime | None = None
    anything: object = None


class Packed(msgspec.Struct):
    cents: int = 0
    lines: list[Line] = []


def nothing() -> None:
    return None


@pytest.mark.parametrize(
    ("factory", "state"),
    [
        (pb.Reply, pb.Reply(total=3, text="x")),
        (
            Cart,
            Cart([Line("a", 2)], {"a": 1.5}, {"b", "c"}, "o", datetime(2026, 1, 1, tzinfo=UTC)),
        ),
        (Packed, Packed(7, [Line("a")])),
        (dict[str, int], {"a": 1}),
        (nothing, None),
    ],
)
def test_a_state_comes_back_as_it_was(factory: Callable[[], object], state: object) -> None:
    codec = codec_of(factory)
    assert codec.decode(codec.encode(state)) == state
    assert codec.decode(codec.encode(factory())) == factory()


@given(st.dictionaries(st.text(), st.lists(st.integers(-(2**63), 2**64 - 1))))
def test_any_state_of_its_type_comes_back(state: dict[str, list[int]]) -> None:
    codec = codec_of(dict[str, list[int]])
    data = codec.encode(state)
    assert codec.decode(data) == state
    assert codec.encode(codec.decode(data)) == data


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        (Cart(anything=object()), r"self\.state\.anything is of type object, which cannot"),
        (Cart(anything=[1, {"a": len}]), r"self\.state\.anything\[1\]\['a'\] is of type builtin"),
        (Cart([Line("a", 10**30)]), r"self\.state\.lines\[0\]\.amount is of type int"),
        (Cart(owner=5), r"Expected `str \| null`, got `int` - at `self\.state\.owner`"),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        (None, "could not be read again as Cart: Expected `object`, got `None`"),
    ],
)
def test_what_cannot_be_written_is_named_with_its_place(state: object, fault: str) -> None:
    with pytest.raises(StateError, match=fault):
        codec_of(Cart).encode(state)


def test_a_state_that_holds_itself_is_refused() -> None:
    state = Cart()
    state.anything = [state]
    with pytest.raises(StateError, match=r"self\.state\.anything\[0\]"):
        codec_of(Cart).encode(state)


@pytest.mark.parametrize(
    ("factory", "state", "fault"),
    [
        (pb.Reply, None, "self.state is a NoneType, expected probe.v1.Reply"),
        (pb.Reply, pb.Request(), "self.state is a Request, expected probe.v1.Reply"),
        (nothing, {}, "self.state is a dict, expected None"),
    ],
)
def test_a_state_of_another_type_is_refused(
    factory: Callable[[], object], state: object, fault: str
) -> None:
    with pytest.raises(StateError, match=fault):
        codec_of(factory).encode(state)


@pytest.mark.parametrize("factory", [pb.Reply, Cart])
def test_bytes_of_another_kind_are_refused(factory: Callable[[], object]) -> None:
    with pytest.raises(StateError, match="these bytes are no"):
        codec_of(factory).decode(b"\x93\xff")


# What a newer build wrote.


class Tagged(msgspec.Struct, tag="one"):
    a: int = 0


class OtherTagged(msgspec.Struct, tag="two"):
    b: int = 0


class Row(msgspec.Struct, array_like=True):
    a: int = 0


class Pair(NamedTuple):
    a: int
    line: Line


class Sparse(msgspec.Struct, omit_defaults=True, rename="camel"):
    unit_price: int = 0
    kept: Line | None = None


class Loose(TypedDict):
    a: int


@dataclass
class Deep:
    lines: list[Line] = field(default_factory=list[Line])
    by_name: dict[str, Line] = field(default_factory=dict[str, Line])
    pair: tuple[int, Line] | None = None
    many: tuple[Line, ...] = ()
    tagged: Tagged | OtherTagged | None = None
    either: list[Line] | Line | None = None
    rows: list[Row] = field(default_factory=list[Row])
    named: Pair | None = None
    loose: Loose | None = None
    sparse: Sparse | None = None
    positive: Annotated[int, msgspec.Meta(ge=0)] = 0
    tags: set[str] = field(default_factory=set[str])
    inner: Deep | None = None


NO_FIELDS: list[int] = []
NEW_LINE = {"item": "a", "price": 1}


@pytest.mark.parametrize(
    ("stored", "place"),
    [
        ({"more": 1}, ".more"),
        ({"lines": [{"item": "a"}, NEW_LINE]}, ".lines[1].price"),
        ({"by_name": {"x": NEW_LINE}}, ".by_name['x'].price"),
        ({"pair": [1, NEW_LINE]}, ".pair[1].price"),
        ({"many": [NEW_LINE]}, ".many[0].price"),
        ({"tagged": {"type": "two", "b": 1, "a": 1}}, ".tagged.a"),
        ({"either": NEW_LINE}, ".either.price"),
        ({"either": [NEW_LINE]}, ".either[0].price"),
        ({"rows": [[1, 2]]}, ".rows[0][1]"),
        ({"named": [1, NEW_LINE]}, ".named[1].price"),
        ({"loose": {"a": 1, "b": 1}}, ".loose.b"),
        ({"sparse": {"unitPrice": 1, "more": 2}}, ".sparse.more"),
        ({"inner": {"inner": {"more": 1}}}, ".inner.inner.more"),
    ],
)
def test_a_field_that_is_not_in_the_class_is_refused_with_its_place(
    stored: dict[str, object], place: str
) -> None:
    data = msgspec.msgpack.encode(stored)
    with pytest.raises(StateError, match=rf"a field that Deep has not: {re.escape(place)} \("):
        codec_of(Deep).decode(data)


@pytest.mark.parametrize(
    "stored",
    [
        {"positive": 5, "tags": ["b", "a", "b"]},
        {"sparse": {"unitPrice": 0, "kept": None}},
        {"lines": [{"amount": 2, "item": "in another order"}]},
        {"tagged": {"type": "one"}},
        {"rows": [NO_FIELDS], "pair": [1, {"item": "a"}], "named": [1, {"item": "a"}]},
        {},
    ],
)
def test_what_older_builds_wrote_otherwise_is_read(stored: dict[str, object]) -> None:
    assert isinstance(codec_of(Deep).decode(msgspec.msgpack.encode(stored)), Deep)


def test_protobuf_keeps_fields_that_it_does_not_know() -> None:
    codec = codec_of(pb.Reply)
    newer = pb.Reply(total=1).SerializeToString() + b"\xf8\x07\x2a"
    assert codec.encode(codec.decode(newer)) == newer


def test_an_event_is_named_in_errors() -> None:
    codec = codec_of_class(Line, "the event Line")
    with pytest.raises(StateError, match=r"`int`, got `str` - at `the event Line\.amount`"):
        codec.encode(Line("a", "b"))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with pytest.raises(StateError, match=r"the event Line\.item is of type object, which cannot"):
        codec.encode(Line(object()))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


@dataclass
class Unclear:
    either: Line | Cart | None = None


def test_a_type_that_cannot_be_read_is_refused_at_once() -> None:
    with pytest.raises(StateError, match="Unclear cannot be serialised"):
        codec_of(Unclear)
