"""Log lines of processes as people read them."""

from __future__ import annotations

import json

from seedbed.cli.logline import fields_of, for_people

LINE = {
    "time": "2026-01-01T00:00:00.000Z",
    "level": "warning",
    "event": "loop blocked",
    "place": "cart.py:12",
    "why": "it slept",
    "logger": "seedbed_worker.loop_watch",
    "process": {"role": "worker", "node": "worker-1"},
}


def test_level_event_and_fields_stand_in_one_line() -> None:
    text = for_people(json.dumps(LINE))
    assert text == "warning: loop blocked  place=cart.py:12 why='it slept'"


def test_a_stack_stands_below() -> None:
    text = for_people(json.dumps(LINE | {"error": "Traceback:\n  cart.py"}))
    assert text.splitlines()[1:] == ["Traceback:", "  cart.py"]


def test_any_other_line_stays_as_it_is() -> None:
    for line in ("some user's print", "[1, 2]", "{no", '{"level": "error"}', ""):
        assert for_people(line) == line
    assert fields_of("[1]") == {}
