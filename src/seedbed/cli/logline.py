"""Log lines of the processes of `seedbed up`, as people read them."""

from __future__ import annotations

import json
from typing import Final

_LEFT_OUT: Final = ("time", "level", "event", "logger", "process", "error")
"""Said elsewhere in the text, or by the name of the process before it."""


def fields_of(line: str) -> dict[str, object]:
    """What a JSON object says; empty for any other line."""
    if not line.startswith("{"):
        return {}
    try:
        said: dict[str, object] = json.loads(line)
    except ValueError:
        return {}
    return said


def for_people(line: str) -> str:
    """`warning: loop blocked  place=cart.py:12 …`, with the stack below if there is one."""
    said = fields_of(line)
    if "level" not in said or "event" not in said:
        return line
    fields = " ".join(f"{name}={_shown(said[name])}" for name in said if name not in _LEFT_OUT)
    text = f"{said['level']}: {said['event']}  {fields}".rstrip()
    return f"{text}\n{said['error']}" if "error" in said else text


def _shown(value: object) -> str:
    text = str(value)
    return text if text and not any(c.isspace() or c == "=" for c in text) else repr(text)
