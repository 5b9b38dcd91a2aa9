"""Finds mutable values that many instances share by mistake: `items = []` in a class's body."""

from __future__ import annotations

import inspect
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import is_dataclass
from types import MemberDescriptorType
from typing import ClassVar, Final, get_origin

import msgspec
from google.protobuf.message import Message

_MUTABLE = (list, dict, set, bytearray, deque, Message)
_ON_PURPOSE = re.compile(r"([A-Za-z_]\w*\.)?(ClassVar|Final)\b")
"""An annotation as text that says so."""


def shared_attributes(cls: type) -> Iterator[tuple[type, str, object]]:
    """Mutable attributes of the bodies of this class and its bases, with the class that has each.

    Those annotated as ClassVar or Final are meant so.
    """
    for base in cls.__mro__:
        meant = _meant_to_be_shared(base)
        for name, value in vars(base).items():
            if not name.startswith("__") and name not in meant and is_mutable(value):
                yield base, name, value


def same_in_both(one: object, other: object) -> Iterator[tuple[str, object]]:
    """Mutable attributes of two instances of one class that are one and the same object."""
    for name in _attributes(one):
        value = getattr(one, name, None)
        if is_mutable(value) and value is getattr(other, name, None):
            yield name, value


def is_mutable(value: object) -> bool:
    """Whether it is of a kind that people change in place."""
    if isinstance(value, _MUTABLE):
        return True
    if isinstance(value, msgspec.Struct):
        return not value.__struct_config__.frozen
    if is_dataclass(value) and not isinstance(value, type):
        return not getattr(type(value), "__dataclass_params__").frozen  # noqa: B009  untyped
    return False


def _attributes(instance: object) -> Iterator[str]:
    """Names of what lies in the instance, in its slots and in its classes' bodies."""
    yield from getattr(instance, "__dict__", ())
    for base in type(instance).__mro__:
        for name, value in vars(base).items():
            if isinstance(value, MemberDescriptorType):
                yield name
    for _, name, _ in shared_attributes(type(instance)):
        yield name


def _meant_to_be_shared(cls: type) -> set[str]:
    try:
        annotations = inspect.get_annotations(cls)
    except NameError:  # evaluated only now, from Python 3.14 on
        return set()
    return {name for name, annotation in annotations.items() if _is_class_var(annotation)}


def _is_class_var(annotation: object) -> bool:
    if isinstance(annotation, str):
        return _ON_PURPOSE.match(annotation) is not None
    return (get_origin(annotation) or annotation) in (ClassVar, Final)
