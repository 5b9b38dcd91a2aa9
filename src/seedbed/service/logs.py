"""Writes log records as JSON lines, or as text for people when stderr is a terminal.

Event names and fields are listed in docs/metrics-and-logs.md: the message of a record is the event,
what is given by `extra=` are its fields.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

LEVELS = ("debug", "info", "warning", "error")
"""What SEEDBED_LOG may say."""

_QUIET = ("asyncio", "grpc", "opentelemetry", "uvicorn", "urllib3")
"""Loggers of libraries whose `info` nobody asked for."""

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes that every record has; all others came by `extra=`."""


def configure(
    level: str,
    common: Mapping[str, str] | None = None,
    *,
    stream: TextIO | None = None,
    json_lines: bool | None = None,
) -> None:
    """Send all records of `level` (one of `LEVELS`) and above to `stream` (stderr).

    `common` says who writes (role and node); it stands under `process` in every line. Called again
    it replaces what an earlier call set up.
    """
    out = stream if stream is not None else sys.stderr
    as_json = json_lines if json_lines is not None else not out.isatty()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter(common or {}) if as_json else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    quiet = max(logging.WARNING, logging.getLogger().level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else quiet)


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
