"""Followers are told when a lost owner's shards will move, and never a time that is too late."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from seedbed.outlook import RESUME_NS
from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_seed.outlook import ShardOutlook, lost_owners
from tests.unit.seed.cluster import SECOND, TTL, Cluster
from tests.unit.seed.declared import hello
from tests.unit.seed.desk import Desk, desk


class _ClockOf:
    """The cluster's time."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def now_ns(self) -> int:
        return self._cluster.now_ns

    def wall_ms(self) -> int:
        return 0


def lost(cluster: Cluster) -> dict[str, int]:
    """Seconds until they may move, by owner."""
    found = lost_owners(cluster.core, cluster.tables.values(), cluster.now_ns)
    return {incarnation: (at_ns - cluster.now_ns) // SECOND for incarnation, at_ns in found}


def test_nothing_is_told_while_every_owner_answers() -> None:
    assert lost(Cluster().placed("a", "b")) == {}


def test_a_silent_owner_is_told_with_the_rest_of_its_lease() -> None:
    c = Cluster().placed("a", "b")
    c.change(c.workers["a"], silent_age_ns=SECOND)
    assert lost(c) == {"a.1": 4}
    c.wait(SECOND)
    assert lost(c) == {"a.1": 3}


def test_an_owner_that_is_gone_is_told_until_its_shards_move() -> None:
    c = Cluster().placed("a", "b")
    c.lose("a")
    assert lost(c) == {"a.1": 5}
    c.wait(TTL)
    assert "a.1" not in c.owners()
    assert lost(c) == {}


def test_an_owner_that_may_be_proved_dead_any_moment_is_not_told() -> None:
    c = Cluster(evidence="all").placed("a", "b")
    c.change(c.workers["a"], silent_age_ns=SECOND)
    assert lost(c) == {}


def test_the_type_that_may_move_first_decides() -> None:
    c = Cluster(types=("t", "u"))
    for name in ("a", "b"):
        worker = c.join(name)
        c.change(replace(worker, types={"t": False, "u": True}))
    c.wait(SECOND)
    c.change(c.workers["a"], silent_age_ns=SECOND)
    assert c.core.movable_at_ns("t", c.owners().index("a.1"), c.now_ns) == c.now_ns + 4 * SECOND
    assert lost(c) == {}


def test_calls_wait_for_an_owner_that_was_marked_silent_just_now() -> None:
    c = Cluster().placed("a", "b")
    shard = c.owners().index("a.1")
    outlook = ShardOutlook(c.core, _ClockOf(c))
    marked = c.change(c.workers["a"], silent_age_ns=0)
    assert outlook.available_in_s("t", shard) == TTL / 1e9
    assert outlook.back_within_s("t", shard) == RESUME_NS / 1e9
    c.wait(RESUME_NS)
    assert outlook.back_within_s("t", shard) == 0
    c.change(marked, silent_age_ns=None, stream_id="resumed")
    assert outlook.available_in_s("t", shard) is None
    c.change(marked)
    c.lose("a")
    assert outlook.back_within_s("t", shard) == 0, "who is gone does not resume"


def snapshot(seed: Desk) -> pb.RouteUpdate:
    """What one who follows from now on is sent first."""
    data = seed.routes.reader(lambda: None, register=False).take()
    assert data is not None
    return pb.RouteUpdate.FromString(data)


async def test_every_follower_is_told_the_time_that_is_left_when_it_asks() -> None:
    async with desk(ttl_s=4, evidence="off", driving=True) as seed:
        first, _ = await seed.join(hello("w1", "w1-a"))
        await first.ack()
        await seed.until("w1 has all", lambda: ("cup", 0) in seed.view.tables)
        second, _ = await seed.join(hello("w2", "w2-a", port=4001))
        await second.ack()
        await seed.until_status("w2", store_pb2.MEMBER_STATUS_UP)
        assert not snapshot(seed).lost
        first.disconnect()
        await seed.until_silent("w1")
        [before] = snapshot(seed).lost
        assert before.incarnation == "w1-a"
        assert 2_000 < before.available_in_ms <= 4_000
        await asyncio.sleep(0.3)  # the time that is counted
        [after] = snapshot(seed).lost
        assert 200 < before.available_in_ms - after.available_in_ms < 2_000
