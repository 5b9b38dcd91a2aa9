"""Writes log records as JSON lines, or as text for people when stderr is a terminal.

Event names and fields are listed in docs/metrics-and-logs.md: the message of a record is the event,
what is given by `extra=` are its fields.

A start that ends with a wrong setting prints one line and nothing else. Whatever is logged before
all settings are accepted and both ports are open (by us, or by a module of the user's) is therefore
held, until `release`, or until the process fails otherwise.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import MemoryHandler
from typing import TextIO

LEVELS = ("debug", "info", "warning", "error")
"""What SEEDBED_LOG may say."""

_QUIET = ("asyncio", "grpc", "opentelemetry", "uvicorn", "urllib3")
"""Loggers of libraries whose `info` nobody asked for."""

_HELD = 10_000
"""Records that may be held."""

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes that every record has; all others came by `extra=`."""


def personal(**fields: str) -> dict[str, str]:
    """Fields that may say something of a person, such as keys: only logged at level `debug`."""
    return fields if logging.getLogger().isEnabledFor(logging.DEBUG) else {}


def configure(
    level: str,
    common: Mapping[str, str] | None = None,
    *,
    stream: TextIO | None = None,
    json_lines: bool | None = None,
    held: bool = False,
) -> None:
    """Send all records of `level` (one of `LEVELS`) and above to `stream` (stderr).

    `common` says who writes (role and node); it stands under `process` in every line. Called again
    it replaces what an earlier call set up. `held`: write nothing before `release`, except that
    with `debug`, which shows the stacks behind settings errors, all is written at once.
    """
    out = stream if stream is not None else sys.stderr
    as_json = json_lines if json_lines is not None else not out.isatty()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter(common or {}) if as_json else TextFormatter())
    outer: logging.Handler = handler
    if held and level != "debug":
        outer = MemoryHandler(_HELD, flushLevel=logging.CRITICAL, target=handler)
    logging.basicConfig(level=level.upper(), handlers=[outer], force=True)
    quiet = max(logging.WARNING, logging.getLogger().level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else quiet)


def release() -> None:
    """Write what was held, and hold nothing from now on."""
    root = logging.getLogger()
    for holder in [one for one in root.handlers if isinstance(one, MemoryHandler)]:
        # It stays in its place: to change handlers could lose or double a record of a thread's.
        holder.flushLevel = logging.NOTSET
        holder.flush()


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What the caller gave by `extra=`."""
    return {name: value for name, value in vars(record).items() if name not in _OWN}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event, its fields, logger, process, error."""

    def __init__(self, common: Mapping[str, str]) -> None:
        super().__init__()
        # Under a name of their own: an event about another node has a `node` too.
        self._process = {"process": dict(common)} if common else {}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _iso(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **fields_of(record),
            "logger": record.name,
            **self._process,
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False, separators=(", ", ": "))


class TextFormatter(logging.Formatter):
    """`12:00:01 info     member up  node=w-1 shards=512`."""

    def format(self, record: logging.LogRecord) -> str:
        time = _iso(record)[11:19]
        fields = " ".join(f"{name}={_short(value)}" for name, value in fields_of(record).items())
        line = f"{time} {record.levelname.lower():8} {record.getMessage()}"
        if fields:
            line += f"  {fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _iso(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _short(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(c.isspace() or c == "=" for c in text) else text
