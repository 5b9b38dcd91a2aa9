"""Finds an entity class's event classes (the second argument of its base) and checks them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import UnionType
from typing import Never, NoReturn, TypeVar, Union, cast, get_args, get_origin

from seedbed.entity import AnyEntity, Entity
from seedbed.errors import ContractError, StateError
from seedbed_worker.places import place
from seedbed_worker.states import can_be_stored, entity_arguments
from seedbed_worker.stored_types import StoredTypes, stored_name


def event_classes(cls: type[AnyEntity]) -> tuple[type, ...]:
    """The classes of its events, in their order; none for a class without events.

    Raises `ContractError` for what cannot be an event, and for a class without `apply`.
    """
    events = tuple(dict.fromkeys(_members(entity_arguments(cls)[1])))
    found: list[type] = []
    for event in events:
        if not isinstance(event, type):
            raise ContractError(
                f"{place(cls)}: one of its events is {event!r}: name the classes themselves, as in"
                " Entity[pb.CartState, pb.ItemAdded | pb.ItemRemoved]"
            )
        if cls.seedbed_durable and not can_be_stored(event):
            raise ContractError(
                f"{place(cls)}: its event {event.__qualname__} cannot be stored: use a protobuf"
                " message, a dataclass or a msgspec.Struct, or declare the class with durable=False"
            )
        found.append(event)
    if found and cls.apply is Entity.apply:
        raise ContractError(
            f"{place(cls)}: it has events ({', '.join(one.__qualname__ for one in found)}) and no"
            " apply(): define apply(self, event), which changes the state as the event says"
        )
    return tuple(found)


def stored_types(
    cls: type[AnyEntity], state: Callable[[], object], events: Iterable[type]
) -> StoredTypes:
    """How instances of its state and its events are stored. Raises `ContractError`."""
    names: dict[str, object] = {} if state() is None else {stored_name(state): state}
    for event in events:
        name = stored_name(event)
        other = names.setdefault(name, event)
        if other is not event:
            raise ContractError(
                f"{place(cls)}: {_full(other)} and {_full(event)} are both stored as {name}: give"
                " one of them another name"
            )
    try:
        return StoredTypes(state, tuple(events))
    except StateError as error:
        raise ContractError(
            f"{place(cls)}: it cannot be stored: {error}; or declare the class with durable=False"
        ) from error


def _members(argument: object) -> Iterable[object]:
    if isinstance(argument, TypeVar):
        # As with the state: those of typing have a default only from 3.13 on.
        argument = getattr(argument, "__default__", Never)
    argument = getattr(argument, "__value__", argument)  # of a `type` statement
    if argument in (Never, NoReturn):
        return ()
    if get_origin(argument) in (Union, UnionType):
        return [inner for one in get_args(argument) for inner in _members(one)]
    return (argument,)


def _full(type_: object) -> str:
    made = cast("type", get_origin(type_) or type_)
    return f"{made.__module__}.{made.__qualname__}"
