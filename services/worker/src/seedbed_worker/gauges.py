"""The gauges of a worker: what it has and does just now."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seedbed_worker.driver import Worker  # a worker sets its gauges


def set_gauges(worker: Worker) -> None:
    """Let `/metrics` show them."""
    config, gauge, host = worker.config, worker.metrics.gauge, worker.host
    info = ("worker", config.node_id, config.cluster, version("seedbed-worker"))
    gauge("seedbed_info", lambda: {info: 1})
    gauge("seedbed_lease_margin_seconds", lambda: _lease_margin_s(worker))
    gauge("seedbed_shards", lambda: _shards(worker))
    gauge("seedbed_running_calls", lambda: host.rt.calls)
    gauge(
        "seedbed_active_entities",
        lambda: {(type_,): len(home.entities) for type_, home in host.homes.items()},
    )
    gauge(
        "seedbed_open_streams",
        lambda: {(type_,): len(home.streams) for type_, home in host.homes.items()},
    )
    gauge(
        "seedbed_failing_reminders",
        lambda: {(type_,): host.reminders.agenda.failing(type_) for type_ in host.homes},
    )
    if worker.durability is not None:
        store = worker.durability.store
        gauge("seedbed_late_records_total", lambda: store.late)
    gauge("seedbed_loop_lag_seconds", lambda: worker.lag.lag_ns() / 1e9)
    gauge("seedbed_loop_lag_worst_seconds", lambda: worker.lag.worst_ns / 1e9)


def _lease_margin_s(worker: Worker) -> float:
    lease = worker.session.lease if worker.session is not None else None
    if lease is None or lease.fenced:
        return -1.0
    return (lease.valid_until_ns - worker.clock.now_ns()) / 1e9


def _shards(worker: Worker) -> dict[tuple[str, ...], float]:
    owned: dict[tuple[str, ...], float] = {(one.contract.type, "owned"): 0 for one in worker.hosted}
    if worker.region.incarnation is not None:
        for (type_, _), row in worker.region.view.mine.items():
            count = sum(1 for mine in row if mine is not None)
            owned[type_, "owned"] = owned.get((type_, "owned"), 0) + count
    return owned
