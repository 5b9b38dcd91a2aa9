"""Finds the type of an entity class's state (the first argument of its base) and checks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from types import NoneType
from typing import Any, TypeVar, cast, get_args, get_origin

import msgspec
from google.protobuf.message import Message

from seedbed.entity import AnyEntity, Entity
from seedbed.errors import ContractError, StateError
from seedbed_worker.places import attribute_place, place
from seedbed_worker.sharing import same_in_both
from seedbed_worker.state_codec import codec_of


def state_factory(cls: type[AnyEntity]) -> Callable[[], object]:
    """What makes a fresh state; tried once. Raises `ContractError`."""
    state = entity_arguments(cls)[0]
    if isinstance(state, TypeVar):
        # TypeVars of typing_extensions have a default, those of typing do so only from 3.13 on.
        state = getattr(state, "__default__", state)
    if state is None or state is NoneType:
        return _nothing
    if not callable(state):
        raise ContractError(
            f"{place(cls)}: the type of its state is {state!r}: name the class itself, as in"
            " Entity[pb.CartState]"
        )
    name = getattr(state, "__qualname__", repr(state))
    if cls.seedbed_durable and not can_be_stored(state):
        raise ContractError(
            f"{place(cls)}: its state is {name}, which cannot be stored: use a protobuf message, a"
            " dataclass, a msgspec.Struct or None, or declare the class with durable=False"
        )
    try:
        one, other = state(), state()
    except Exception as error:
        raise ContractError(
            f"{place(cls)}: a fresh state is {name}(), which raises {type(error).__name__}:"
            f" {error}: give every field a default"
        ) from error
    if cls.seedbed_durable:
        _check_storing(cls, state, one)
    for attribute, value in same_in_both(one, other):
        raise ContractError(
            f"{attribute_place(type(one), attribute)}: {attribute} is one"
            f" {type(value).__name__} for all states of {cls.__qualname__}: give each its own, in a"
            " dataclass with field(default_factory=…)"
        )
    return state


def can_be_stored(type_: object) -> bool:
    """Whether it is of a kind that the store takes."""
    made: object = get_origin(type_) or type_
    if is_dataclass(made):
        return True
    return isinstance(made, type) and issubclass(made, Message | msgspec.Struct)


def _check_storing(cls: type[AnyEntity], state: Callable[[], object], fresh: object) -> None:
    try:
        codec_of(state).encode(fresh)
    except StateError as error:
        raise ContractError(
            f"{place(cls)}: its state cannot be stored: {error}; or declare the class with"
            " durable=False"
        ) from error


def _nothing() -> None:
    return None


def entity_arguments(cls: type) -> tuple[object, ...]:
    """State and event types as far as this class gives them; else the base's type variables."""
    if cls is Entity:
        return _parameters(cls)
    bases = cast("tuple[object, ...]", cls.__dict__.get("__orig_bases__", cls.__bases__))
    for base in bases:
        origin = get_origin(base) or base
        if isinstance(origin, type) and issubclass(origin, Entity):
            inner = entity_arguments(cast("type", origin))
            given: Mapping[object, object] = dict(
                zip(_parameters(cast("type", origin)), get_args(base), strict=False)
            )
            return tuple(given.get(argument, argument) for argument in inner)
    raise AssertionError(f"{cls} is no Entity")


def _parameters(cls: type) -> tuple[object, ...]:
    return cast("tuple[Any, ...]", getattr(cls, "__parameters__", ()))
