"""A log line is an event with fields, for machines and for people."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from seedbed.service import logs

log = logging.getLogger("seedbed.test")


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """The root logger as it was, after the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    # basicConfig(force=True) would close pytest's own handlers.
    for handler in handlers:
        root.removeHandler(handler)
    yield
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_what_is_no_terminal_gets_json_lines() -> None:
    out = io.StringIO()
    logs.configure("info", {"role": "seed", "node": "s-1"}, stream=out)
    log.info("member up", extra={"node": "w-1", "shards": 512, "roles": ["a", "b"]})
    (line,) = lines(out)
    assert str(line.pop("time")).endswith("Z")
    assert line == {
        "level": "info",
        "event": "member up",
        "process": {"role": "seed", "node": "s-1"},
        "logger": "seedbed.test",
        "node": "w-1",
        "shards": 512,
        "roles": ["a", "b"],
    }


def test_any_value_and_text_makes_one_line() -> None:
    out = io.StringIO()
    logs.configure("info", stream=out)
    log.info("odd %s", "line\nbreak ü", extra={"value": object(), "bytes": b"\xff"})
    (line,) = lines(out)
    assert line["event"] == "odd line\nbreak ü"
    assert line["bytes"] == "b'\\xff'"


def test_an_exception_stays_on_its_line() -> None:
    out = io.StringIO()
    logs.configure("info", stream=out)
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("turn failed")
    (line,) = lines(out)
    assert "ValueError: no" in str(line["error"])


def test_the_level_is_kept_and_libraries_are_quieter() -> None:
    out = io.StringIO()
    logs.configure("info", stream=out)
    log.debug("not this")
    logging.getLogger("uvicorn.error").info("nor this")
    logging.getLogger("uvicorn.error").warning("but this")
    assert [line["event"] for line in lines(out)] == ["but this"]
    logs.configure("debug", stream=out)
    logging.getLogger("uvicorn.error").info("now this too")
    assert lines(out)[-1]["event"] == "now this too"


def test_a_terminal_gets_text() -> None:
    out = io.StringIO()
    logs.configure("info", {"role": "seed"}, stream=out, json_lines=False)
    log.info("member up", extra={"member": "w-1", "why": "two words"})
    text = out.getvalue()
    assert text[8:].startswith(" info     member up  member=w-1 why='two words'")


def test_what_is_held_is_written_in_its_order_when_it_is_released() -> None:
    out = io.StringIO()
    logs.configure("info", stream=out, held=True)
    log.error("first")
    assert lines(out) == []
    logs.release()
    log.info("second")
    assert [line["event"] for line in lines(out)] == ["first", "second"]


def test_with_debug_nothing_is_held() -> None:
    out = io.StringIO()
    logs.configure("debug", stream=out, held=True)
    log.debug("import failed")
    assert [line["event"] for line in lines(out)] == ["import failed"]
