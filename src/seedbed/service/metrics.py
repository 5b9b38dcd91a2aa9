"""Counts what happens, cheaply, and renders it for Prometheus.

The hot path holds a `Calls` object and adds to plain integers; only a scrape does any work. Numbers
that something else knows (members, shards) are gauges: functions asked at a scrape, which run in
the management thread and so must only read.
"""

from __future__ import annotations

import logging
import os
import resource
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from seedbed.service.metrics_list import CODES, METRICS

log = logging.getLogger(__name__)

Labels: TypeAlias = tuple[str, ...]
"""Values of a metric's labels, in the order of the list."""

Gauge: TypeAlias = Callable[[], float | Mapping[Labels, float]]
"""A number, or one for each set of label values."""

BOUNDS_NS = tuple(
    int(seconds * 1e9)
    for seconds in (
        0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
    )
)  # fmt: skip
"""Upper bounds of the latency buckets."""


class Calls:
    """Calls of one method: how they ended and how long they took."""

    __slots__ = ("buckets", "codes", "sum_ns")

    def __init__(self) -> None:
        self.codes = [0] * len(CODES)
        self.buckets = [0] * (len(BOUNDS_NS) + 1)
        self.sum_ns = 0

    def observe(self, code: int, took_ns: int) -> None:
        """A unary call ended with this gRPC status code after this time."""
        self.codes[code] += 1
        self.buckets[bisect_left(BOUNDS_NS, took_ns)] += 1
        self.sum_ns += took_ns

    def ended(self, code: int) -> None:
        """A stream ended: its length says nothing about speed, so only the code counts."""
        self.codes[code] += 1


class Counter:
    """A number that only rises."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, number: int = 1) -> None:
        self.value += number


class Metrics:
    """All metrics of a process. Names must stand in `metrics_list`."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], Calls] = {}
        self._counters: dict[tuple[str, Labels], Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self.gauge("process_cpu_seconds_total", _cpu_seconds)
        self.gauge("process_resident_memory_bytes", _resident_bytes)
        self.gauge("process_open_fds", _open_fds)

    def calls(self, type_: str, method: str) -> Calls:
        """The counts of one method; to be kept by whoever calls it often."""
        found = self._calls.get((type_, method))
        if found is None:
            found = self._calls[(type_, method)] = Calls()
        return found

    def counter(self, name: str, *labels: str) -> Counter:
        """The counter of these label values."""
        if METRICS[name].kind != "counter" or len(METRICS[name].labels) != len(labels):
            raise ValueError(f"{name} is no counter with {len(labels)} labels")
        return self._counters.setdefault((name, labels), Counter())

    def gauge(self, name: str, read: Gauge) -> None:
        """Ask `read` at each scrape; a second one of the same name replaces the first."""
        if name not in METRICS:
            raise ValueError(f"{name} is not in the list of metrics")
        self._gauges[name] = read

    def render(self) -> str:
        """All of it in Prometheus' text format."""
        lines: list[str] = []
        for name, samples in self._samples():
            metric = METRICS[name]
            if samples:
                lines.append(f"# HELP {name} {metric.meaning}")
                lines.append(f"# TYPE {name} {metric.kind}")
                lines.extend(samples)
        return "\n".join(lines) + "\n"

    def _samples(self) -> Iterable[tuple[str, list[str]]]:
        # `sorted` copies a dictionary in one step, while the loop may be adding to it.
        calls = sorted(self._calls.items())
        counters = sorted(self._counters.items(), key=lambda item: item[0])
        for name, metric in METRICS.items():
            if name == "seedbed_calls_total":
                yield name, _code_samples(name, calls)
            elif name == "seedbed_call_duration_seconds":
                yield name, _latency_samples(name, calls)
            elif name in self._gauges:
                yield name, _gauge_samples(name, metric.labels, self._gauges[name])
            else:
                yield (
                    name,
                    [
                        _sample(name, metric.labels, labels, counter.value)
                        for (counted, labels), counter in counters
                        if counted == name
                    ],
                )


def _code_samples(name: str, calls: list[tuple[tuple[str, str], Calls]]) -> list[str]:
    return [
        _sample(name, ("type", "method", "code"), (*key, code), count)
        for key, counts in calls
        for code, count in zip(CODES, counts.codes, strict=True)
        if count
    ]


def _latency_samples(name: str, calls: list[tuple[tuple[str, str], Calls]]) -> list[str]:
    lines: list[str] = []
    for key, counts in calls:
        buckets = list(counts.buckets)
        total = 0
        if not any(buckets):
            continue
        for bound, count in zip((*BOUNDS_NS, None), buckets, strict=True):
            total += count
            edge = "+Inf" if bound is None else _number(bound / 1e9)
            lines.append(_sample(f"{name}_bucket", ("type", "method", "le"), (*key, edge), total))
        lines.append(_sample(f"{name}_sum", ("type", "method"), key, counts.sum_ns / 1e9))
        lines.append(_sample(f"{name}_count", ("type", "method"), key, total))
    return lines


def _gauge_samples(name: str, labels: Labels, read: Gauge) -> list[str]:
    try:
        value = read()
        if isinstance(value, Mapping):
            return [_sample(name, labels, key, number) for key, number in sorted(value.items())]
        return [_sample(name, (), (), value)]
    except Exception:
        # One number that cannot be read now (a dictionary that changed meanwhile) spoils no scrape.
        log.debug("metric not read", extra={"metric": name}, exc_info=True)
        return []


def _sample(name: str, labels: Labels, values: Labels, number: float) -> str:
    pairs = ",".join(
        f'{label}="{_escaped(value)}"' for label, value in zip(labels, values, strict=True)
    )
    return f"{name}{{{pairs}}} {_number(number)}" if pairs else f"{name} {_number(number)}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.12g}"


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _resident_bytes() -> float:
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def _open_fds() -> float:
    return len(os.listdir("/proc/self/fd"))
