"""Messages as the command line's JSON: one rule for all of them.

Names as in the .proto, every field also at its default, enum values without their type's prefix,
every integer a number.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

Json: TypeAlias = str | int | float | bool | list["Json"] | dict[str, "Json"] | None


def to_json(message: Message) -> Json:
    """The message as what `json.dumps` takes."""
    # (Cast: the stub's union of two implementations with the same attributes.)
    descriptor = cast(Descriptor, message.DESCRIPTOR)
    if descriptor.full_name.startswith("google.protobuf."):
        # Timestamps, durations and the like have a form of their own. (Cast: typed as Any.)
        return cast(Json, json_format.MessageToDict(message, preserving_proto_field_name=True))
    result: dict[str, Json] = {}
    for field in descriptor.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        result[field.name] = _field(field, getattr(message, field.name))
    return result


def to_line(message: Message) -> str:
    """The message as one line of JSON."""
    return json.dumps(to_json(message), ensure_ascii=False)


def to_text(message: Message) -> str:
    """The message as JSON for people."""
    return json.dumps(to_json(message), ensure_ascii=False, indent=2)


def enum_name(enum: EnumDescriptor, number: int) -> str | int:
    """Name of a value without its type's prefix; the number of a value that has no name."""
    value = enum.values_by_number.get(number)
    if value is None:
        return number
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    return value.name.removeprefix(prefix) or value.name


def _field(field: FieldDescriptor, value: object) -> Json:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        inner = entry.fields_by_name["value"]
        pairs = cast(Mapping[object, object], value)
        return {_map_key(key): _single(inner, item) for key, item in pairs.items()}
    if field.is_repeated:
        return [_single(field, item) for item in cast(Sequence[object], value)]
    return _single(field, value)


def _map_key(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _single(field: FieldDescriptor, value: object) -> Json:
    if isinstance(value, Message):
        return to_json(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, int) and field.enum_type is not None:
        return enum_name(field.enum_type, value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{field.full_name}: {type(value).__name__} has no JSON form")
