"""What `SEEDBED_ENTITIES` names: modules, classes, and functions that give factories."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import TypeGuard, cast

from seedbed.entity import AnyEntity, Entity
from seedbed.errors import SettingsError
from seedbed_worker.places import in_words, raised_at

log = logging.getLogger(__name__)

SETTING = "SEEDBED_ENTITIES"


@dataclass(frozen=True, slots=True)
class Function:
    """`module:function`, an async context manager around the worker's life."""

    name: str
    make: Callable[[], object]


def find(name: str) -> list[type[AnyEntity]] | Function:
    """What one name of the setting stands for; raises `SettingsError` if it stands for nothing."""
    module_name, _, attribute = name.partition(":")
    module = _module(module_name)
    if not attribute:
        found = [
            value
            for value in vars(module).values()
            if is_entity(value) and value.__module__ == module.__name__ and servicers(value)
        ]
        if not found:
            raise SettingsError(
                f"{SETTING}: module {module_name} defines no entity class, expected a class with"
                " the bases Entity and a generated ...Servicer"
            )
        return found
    there: object = getattr(module, attribute, None)
    if is_entity(there):
        return [there]
    if callable(there) and not isinstance(there, type):
        return Function(name, there)
    what = "nothing" if there is None else type(there).__name__
    raise SettingsError(
        f"{SETTING}: {name} is {what}, expected a class derived from Entity, or a function made by"
        " @asynccontextmanager that yields a list of factories"
    )


def class_of(factory: object) -> type[AnyEntity] | None:
    """The class that a factory makes: itself, or that of a `functools.partial`; else None."""
    made = cast("object", factory.func) if isinstance(factory, partial) else factory
    return made if is_entity(made) else None


def is_entity(value: object) -> TypeGuard[type[AnyEntity]]:
    """Whether it is a class of the user's derived from Entity."""
    return isinstance(value, type) and issubclass(value, Entity) and value is not Entity


def servicers(cls: type) -> list[type]:
    """The generated servicer classes among its bases."""
    return [
        base
        for base in cls.__mro__
        if base.__name__.endswith("Servicer") and base.__module__.endswith("_pb2_grpc")
    ]


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise SettingsError(
                f"{SETTING}: no module {name!r}, expected one on PYTHONPATH or installed"
            ) from error
        raise SettingsError(f"{SETTING}: module {name}: {error}{raised_at(error)}") from error
    except Exception as error:  # whatever user code raises while it is imported
        log.debug("import failed", extra={"module_name": name}, exc_info=error)
        raise SettingsError(
            f"{SETTING}: importing {name} raises {in_words(error)}{raised_at(error)}"
        ) from error
