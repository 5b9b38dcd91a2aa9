"""Metrics cost next to nothing to count and are what Prometheus reads."""

from __future__ import annotations

import re
import timeit
from collections.abc import Mapping

import pytest

from seedbed.clock import SystemClock
from seedbed.service.loop_lag import LoopLag
from seedbed.service.metrics import BOUNDS_NS, Calls, Metrics
from seedbed.service.metrics_list import METRICS

SAMPLE = re.compile(r'[a-z_]+(\{[a-z]+="([^"\\]|\\.)*"(,[a-z]+="([^"\\]|\\.)*")*\})? -?[0-9.e+-]+')


def lines(metrics: Metrics) -> list[str]:
    text = metrics.render()
    assert text.endswith("\n")
    for line in text.splitlines():
        assert line.startswith("# ") or SAMPLE.fullmatch(line), line
    return text.splitlines()


def test_calls_are_counted_by_type_method_and_code() -> None:
    metrics = Metrics()
    calls = metrics.calls("thermostat", "Get")
    calls.observe(0, 400_000)
    calls.observe(0, 400_000)
    calls.observe(14, 3_000_000_000)
    shown = lines(metrics)
    assert 'seedbed_calls_total{type="thermostat",method="Get",code="OK"} 2' in shown
    assert 'seedbed_calls_total{type="thermostat",method="Get",code="UNAVAILABLE"} 1' in shown


def test_latencies_are_cumulative_buckets() -> None:
    metrics = Metrics()
    calls = metrics.calls("t", "M")
    calls.observe(0, BOUNDS_NS[0])
    calls.observe(0, BOUNDS_NS[0] + 1)
    calls.observe(0, 10**12)
    name = "seedbed_call_duration_seconds"
    shown = lines(metrics)
    assert f'{name}_bucket{{type="t",method="M",le="0.00025"}} 1' in shown
    assert f'{name}_bucket{{type="t",method="M",le="0.0005"}} 2' in shown
    assert f'{name}_bucket{{type="t",method="M",le="30"}} 2' in shown
    assert f'{name}_bucket{{type="t",method="M",le="+Inf"}} 3' in shown
    assert f'{name}_count{{type="t",method="M"}} 3' in shown


def test_a_stream_counts_without_a_latency() -> None:
    metrics = Metrics()
    metrics.calls("t", "Watch").ended(14)
    shown = "\n".join(lines(metrics))
    assert "seedbed_calls_total" in shown
    assert "seedbed_call_duration_seconds" not in shown


def test_gauges_are_asked_at_the_scrape() -> None:
    metrics = Metrics()
    members: dict[tuple[str, ...], float] = {("WORKER", "UP"): 1}
    metrics.gauge("seedbed_members", lambda: members)
    metrics.gauge("seedbed_leader", lambda: 1)
    members["WORKER", "UP"] = 2
    shown = lines(metrics)
    assert 'seedbed_members{role="WORKER",status="UP"} 2' in shown
    assert "seedbed_leader 1" in shown


def test_a_gauge_that_fails_spoils_nothing_else() -> None:
    def broken() -> Mapping[tuple[str, ...], float]:
        raise RuntimeError("dictionary changed size during iteration")

    metrics = Metrics()
    metrics.gauge("seedbed_members", broken)
    metrics.gauge("seedbed_leader", lambda: 0)
    assert "seedbed_leader 0" in lines(metrics)


def test_label_values_are_escaped() -> None:
    metrics = Metrics()
    metrics.calls('a"b\\c\nd', "M").observe(0, 1)
    assert any('type="a\\"b\\\\c\\nd"' in line for line in lines(metrics))


def test_only_listed_metrics_exist() -> None:
    metrics = Metrics()
    with pytest.raises(ValueError, match="not in the list"):
        metrics.gauge("seedbed_other", lambda: 1)
    with pytest.raises(KeyError):
        metrics.counter("seedbed_other")
    with pytest.raises(ValueError, match="no counter with 1 labels"):
        metrics.counter("seedbed_fenced_total", "x")
    metrics.counter("seedbed_fenced_total").add()
    assert "seedbed_fenced_total 1" in lines(metrics)


def test_every_family_is_named_once_with_its_meaning() -> None:
    shown = lines(Metrics())
    helps = [line.split()[2] for line in shown if line.startswith("# HELP")]
    assert helps == [name for name in METRICS if name in helps]
    assert "process_resident_memory_bytes" in helps


def test_counting_a_call_is_far_below_a_microsecond() -> None:
    calls = Calls()
    best = min(timeit.repeat(lambda: calls.observe(0, 400_000), number=20_000, repeat=5)) / 20_000
    assert best < 1.5e-6, f"{best * 1e6:.2f} µs"  # 0.3 µs on an idle machine


class HandClock(SystemClock):
    """A clock that stands still until it is moved."""

    now = 0

    def now_ns(self) -> int:
        return self.now


def test_a_loop_that_stands_still_is_seen_from_outside() -> None:
    clock = HandClock()
    lag = LoopLag(clock, period_s=0.1)
    clock.now = 90_000_000
    assert lag.lag_ns() == 0
    clock.now = 3_100_000_000
    assert lag.lag_ns() == 3_000_000_000
    lag.beat()
    assert lag.lag_ns() == 0
    assert lag.worst_ns == 3_000_000_000
