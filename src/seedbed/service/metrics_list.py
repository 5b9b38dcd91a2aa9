"""Every metric of Seedbed: names, labels and meanings are API (docs/metrics-and-logs.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as Prometheus sees it."""

    name: str
    kind: str
    """counter, gauge or histogram."""
    labels: tuple[str, ...]
    who: str
    meaning: str


_LIST = (
    Metric("seedbed_info", "gauge", ("role", "node", "cluster", "version"), "all", "1"),
    Metric(
        "seedbed_calls_total",
        "counter",
        ("type", "method", "code"),
        "all",
        "entity calls that ended: on a seed those of its clients, on a worker those it ran",
    ),
    Metric(
        "seedbed_call_duration_seconds",
        "histogram",
        ("type", "method"),
        "all",
        "time from arrival to the end of a unary call",
    ),
    Metric("seedbed_open_streams", "gauge", ("type",), "all", "server streams that are open"),
    Metric("seedbed_members", "gauge", ("role", "status"), "seed", "members by their state"),
    Metric("seedbed_leader", "gauge", (), "seed", "1 on the seed that is coordinator"),
    Metric(
        "seedbed_shards",
        "gauge",
        ("type", "state"),
        "all",
        "on a seed all shards (`owned`, `waiting`), on a worker its own (`owned`)",
    ),
    Metric("seedbed_parked_calls", "gauge", (), "seed", "calls that wait for a shard"),
    Metric(
        "seedbed_etcd_age_seconds",
        "gauge",
        (),
        "seed",
        "time since the store was last heard of",
    ),
    Metric(
        "seedbed_lease_margin_seconds",
        "gauge",
        (),
        "worker",
        "time for which the worker may still answer without another heartbeat; negative: fenced",
    ),
    Metric("seedbed_active_entities", "gauge", ("type",), "worker", "entities in memory"),
    Metric("seedbed_running_calls", "gauge", (), "worker", "calls queued or running"),
    Metric(
        "seedbed_handoffs_total",
        "counter",
        ("end",),
        "worker",
        "shards handed off: `released`, or given up at their `limit`",
    ),
    Metric(
        "seedbed_reminders_total",
        "counter",
        ("type", "method", "end"),
        "worker",
        "turns of reminders that ended: `done`, or `failed`, so that they come again",
    ),
    Metric(
        "seedbed_failing_reminders",
        "gauge",
        ("type",),
        "worker",
        "reminders whose newest turn has failed, and that come again",
    ),
    Metric("seedbed_fenced_total", "counter", (), "worker", "incarnations that fenced themselves"),
    Metric(
        "seedbed_late_records_total",
        "counter",
        (),
        "worker",
        "changes that the journal refused, since another worker had the shard by then",
    ),
    Metric(
        "seedbed_loop_lag_seconds", "gauge", (), "all", "time by which the event loop is late now"
    ),
    Metric("seedbed_loop_lag_worst_seconds", "gauge", (), "all", "the longest so far"),
    Metric("process_cpu_seconds_total", "counter", (), "all", "CPU time of the process"),
    Metric("process_resident_memory_bytes", "gauge", (), "all", "memory of the process"),
    Metric("process_open_fds", "gauge", (), "all", "file descriptors of the process"),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _LIST}
"""By name, in the order of the documentation."""

CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""gRPC status codes by number: values of the label `code`."""
