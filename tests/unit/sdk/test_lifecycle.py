"""A service process ends as its caller expects: exit codes, signals, one line for a bad setting."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from seedbed.service import lifecycle

HEAD = """
import asyncio, sys
from seedbed.errors import SettingsError
from seedbed.service import lifecycle, logs
logs.configure("info")
async def serve(stop):
"""
TAIL = """
sys.exit(lifecycle.run(serve, exit_limit_s={limit}))
"""


def started(body: str, *, limit: float = 20) -> subprocess.Popen[str]:
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + indented + TAIL.format(limit=limit)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


def wait_for_line(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline()


def test_a_service_that_returns_ends_with_0() -> None:
    assert ended(started("return")) == (0, "", "")


def test_a_bad_setting_is_one_line_and_code_2() -> None:
    code, _, err = ended(started("raise SettingsError('SEEDBED_PORT: found\\n 1')"))
    assert (code, err) == (2, "SEEDBED_PORT: found 1\n")


HELD = """
import logging
logs.configure("info", held=True)
logging.getLogger("early").warning("setting not built yet")
"""


def test_what_was_logged_before_a_bad_setting_was_found_is_not_shown() -> None:
    code, _, err = ended(started(HELD + "raise SettingsError('SEEDBED_PORT: in use')"))
    assert (code, err) == (2, "SEEDBED_PORT: in use\n")


def test_what_was_logged_before_a_start_that_fails_is_shown() -> None:
    code, _, err = ended(started(HELD + "raise RuntimeError('a bug')"))
    first, second = (json.loads(line)["event"] for line in err.splitlines())
    assert (code, first, second) == (1, "setting not built yet", "process failed")


def test_what_was_logged_before_a_start_that_hangs_is_shown() -> None:
    process = started(HELD + "print(1, flush=True)\nawait asyncio.sleep(60)", limit=0.2)
    wait_for_line(process)
    process.send_signal(signal.SIGTERM)
    code, _, err = ended(process)
    assert code == 1
    first, second = (json.loads(line)["event"] for line in err.splitlines())
    assert (first, second) == ("setting not built yet", "not stopped in time")


def test_a_bad_setting_is_found_in_a_task_group() -> None:
    code, _, err = ended(
        started(
            "async def child(): raise SettingsError('SEEDBED_PORT: in use')\n"
            "async with asyncio.TaskGroup() as group:\n"
            "    group.create_task(child())\n"
            "    group.create_task(stop.wait())"
        )
    )
    assert (code, err) == (2, "SEEDBED_PORT: in use\n")


def test_any_other_error_is_code_1_with_its_trace() -> None:
    code, _, err = ended(started("raise ValueError('no')"))
    assert code == 1
    assert "ValueError: no" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops_in_order(number: signal.Signals) -> None:
    process = started("print('up', flush=True)\nawait stop.wait()\nprint('drained')")
    wait_for_line(process)
    process.send_signal(number)
    assert ended(process)[:2] == (0, "drained\n")


def test_the_second_signal_ends_at_once_even_if_the_loop_hangs() -> None:
    process = started(
        "print('up', flush=True)\nawait stop.wait()\nprint('hangs', flush=True)\nwhile True: pass"
    )
    wait_for_line(process)
    process.send_signal(signal.SIGTERM)
    wait_for_line(process)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 128 + signal.SIGTERM


def test_a_service_that_does_not_stop_is_ended() -> None:
    process = started(
        "print('up', flush=True)\nawait stop.wait()\nawait asyncio.sleep(60)", limit=0.2
    )
    wait_for_line(process)
    process.send_signal(signal.SIGTERM)
    code, _, err = ended(process)
    assert code == 1
    assert "not stopped in time" in err


def test_the_ready_line_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    lifecycle.print_ready("seed", "s-1", grpc="[::1]:4684", http="[::1]:6684")
    assert capsys.readouterr().out == (
        'READY {"role": "seed", "node": "s-1", "grpc": "[::1]:4684", "http": "[::1]:6684"}\n'
    )
