"""States as bytes and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from probe.v1 import probe_pb2 as pb

from seedbed.errors import StateError
from seedbed_worker.state_codec import codec_of


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


@dataclass
class Unclear:
    either: Line | Cart | None = None


def test_a_type_that_cannot_be_read_is_refused_at_once() -> None:
    with pytest.raises(StateError, match="Unclear cannot be serialised"):
        codec_of(Unclear)
