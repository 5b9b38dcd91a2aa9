"""The gauges of a seed: what it knows and has under way just now."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from seedbed_seed.health import members_by_state, shards_by_state

if TYPE_CHECKING:
    from seedbed_seed.seed import Seed  # a seed sets its gauges


def set_gauges(seed: Seed) -> None:
    """Let `/metrics` show them."""
    config, gauge, view = seed.config, seed.metrics.gauge, seed.view
    info = ("seed", config.node_id, config.cluster, version("seedbed-seed"))
    gauge("seedbed_info", lambda: {info: 1})
    gauge("seedbed_members", lambda: members_by_state(view))
    gauge("seedbed_shards", lambda: shards_by_state(view))
    gauge("seedbed_leader", lambda: int(seed.driver.leading))
    gauge("seedbed_parked_calls", lambda: seed.router.parked)
    gauge(
        "seedbed_etcd_age_seconds",
        lambda: (seed.clock.now_ns() - view.progress_ns) / 1e9 if view.synced else 0.0,
    )
    gauge(
        "seedbed_open_streams",
        lambda: {(type_,): count for type_, count in dict(seed.edge.open_streams).items()},
    )
    gauge("seedbed_loop_lag_seconds", lambda: seed.lag.lag_ns() / 1e9)
    gauge("seedbed_loop_lag_worst_seconds", lambda: seed.lag.worst_ns / 1e9)
