"""Who blocks the loop, as the watching thread sees it (a whole worker: integration tests)."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable

import pytest

from seedbed.clock import SystemClock
from seedbed.service.loop_lag import LoopLag
from seedbed_worker.loop_watch import LoopWatch

WARN_S = 0.05
LIMIT_NS = 10_000_000_000


def block(clock: SystemClock, until: Callable[[], object]) -> None:
    """Keep the loop until something is true, or for 10 s."""
    give_up_ns = clock.now_ns() + LIMIT_NS
    while not until() and clock.now_ns() < give_up_ns:
        pass


def blocked(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.message == "loop blocked"]


async def test_code_that_blocks_outside_of_a_turn_is_named_by_its_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = SystemClock()
    with LoopWatch(LoopLag(clock), clock, WARN_S):
        block(clock, lambda: blocked(caplog))
    [record] = blocked(caplog)
    found = vars(record)
    file, _, line = found["place"].rpartition(":")
    assert file == __file__
    # What `block` calls here is the user's as well.
    assert found["function"].rpartition(".")[2] in ("block", "<lambda>", "blocked", "<listcomp>")
    assert 0 < int(line) < inspect.getsourcelines(test_a_loop_that_keeps_up_is_not_warned_of)[1]
    assert found["blocked_s"] >= WARN_S
    assert "entity" not in found


async def test_a_loop_that_keeps_up_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    clock = SystemClock()
    lag = LoopLag(clock)
    with LoopWatch(lag, clock, WARN_S):
        end_ns = clock.now_ns() + 300_000_000
        while clock.now_ns() < end_ns:
            lag.beat()
    assert not blocked(caplog)
