"""Finds what stored MessagePack has and a type has not: it would be lost in the next write."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast

import msgspec
from msgspec import inspect

_Mappings = inspect.StructType | inspect.DataclassType | inspect.TypedDictType
_Items = (
    inspect.ListType
    | inspect.SetType
    | inspect.FrozenSetType
    | inspect.VarTupleType
    | inspect.CollectionType
)


def unknown_field(type_: object, data: bytes) -> str:
    """The place of the first field that the type does not know, as in `.lines[0].discount`.

    Empty if there is none. The data can be decoded as that type.
    """
    return _find(inspect.type_info(type_), msgspec.msgpack.decode(data), "")


def _find(info: inspect.Type, value: object, place: str) -> str:
    if isinstance(info, inspect.Metadata):
        return _find(info.type, value, place)
    if isinstance(info, inspect.UnionType):
        fitting = (one for one in info.types if _fits(one, value))
        return next((found for one in fitting if (found := _find(one, value, place))), "")
    if isinstance(value, Mapping):
        # A check by isinstance leaves the types of its parts unknown.
        return _in_mapping(info, cast("Mapping[object, object]", value), place)
    if isinstance(value, list | tuple):
        return _in_items(info, list(cast("Collection[object]", value)), place)
    return ""


def _in_mapping(info: inspect.Type, value: Mapping[object, object], place: str) -> str:
    if isinstance(info, inspect.DictType):
        for key, inner in value.items():
            if found := _find(info.value_type, inner, f"{place}[{key!r}]"):
                return found
    elif isinstance(info, _Mappings):
        fields = {field.encode_name: field for field in info.fields}
        tag = info.tag_field if isinstance(info, inspect.StructType) else None
        for name, inner in value.items():
            if name == tag:
                continue
            field = fields.get(str(name))
            if field is None:
                return f"{place}.{name}"
            if found := _find(field.type, inner, f"{place}.{name}"):
                return found
    return ""


def _in_items(info: inspect.Type, values: list[object], place: str) -> str:
    types: list[inspect.Type] = []
    first = 0
    if isinstance(info, _Items):
        types = [info.item_type] * len(values)
    elif isinstance(info, inspect.TupleType):
        types = list(info.item_types)
    elif isinstance(info, inspect.NamedTupleType | inspect.StructType):
        types = [field.type for field in info.fields]
        first = int(isinstance(info, inspect.StructType) and info.tag is not None)
        if len(values) - first > len(types):
            return f"{place}[{first + len(types)}]"
    for number, (type_, inner) in enumerate(zip(types, values[first:], strict=False), first):
        if found := _find(type_, inner, f"{place}[{number}]"):
            return found
    return ""


def _fits(info: inspect.Type, value: object) -> bool:
    """Whether it is this member of a union that the value is of. A union has one that is written
    as an object or as an array, or several that tell themselves apart by a tag."""
    if not isinstance(info, inspect.StructType) or info.tag is None:
        return True
    if isinstance(value, Mapping):
        tagged = cast("Mapping[object, object]", value)
        return tagged.get(info.tag_field) == info.tag
    if isinstance(value, list):
        items = cast("list[object]", value)
        return bool(items) and items[0] == info.tag
    return False
