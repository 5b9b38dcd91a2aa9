"""How a worker's status moves, and when it may be given shards."""

from __future__ import annotations

from dataclasses import replace

from seedbed_seed.core.membership import Status, Worker
from tests.unit.seed.cluster import Cluster


def test_status_only_moves_forward() -> None:
    assert Status.JOINING.may_become(Status.UP)
    assert Status.UP.may_become(Status.LEFT)
    assert not Status.UP.may_become(Status.JOINING)
    assert not Status.LEFT.may_become(Status.UP)


def test_a_worker_takes_shards_only_while_up() -> None:
    c = Cluster()
    worker: Worker = c.join("a")
    assert worker.takes("t", "sharding")
    assert worker.takes("t", "")
    assert not worker.takes("t", "other")
    assert not replace(worker, status=Status.DRAINING).takes("t", "sharding")
