"""Evening out: what moves, when, and what holds it back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.ids import NodeId
from seedbed_seed.core.coordinator import Coordinator
from seedbed_seed.core.decisions import Deposed, Elected, RebalanceSettings
from seedbed_seed.core.evening import Load, even_out, spread
from tests.unit.seed.cluster import MS, SECOND, TTL, WALL_MS, Cluster, nodes

EXACT = RebalanceSettings(threshold=0.0)
COOLING = EXACT.cooling_ns


def loads_of(counts: dict[str, int], takes: set[str] | None = None) -> list[Load]:
    first = 0
    loads: list[Load] = []
    for name, count in counts.items():
        movable = [(0.0, shard) for shard in range(first, first + count)]
        first += count
        taking = takes is None or name in takes
        loads.append(Load(NodeId(name), taking, count, movable=movable))
    return loads


class TestThePlan:
    @given(
        counts=st.lists(st.integers(0, 40), min_size=1, max_size=8),
        rates=st.lists(st.floats(0, 100), min_size=320, max_size=320),
        limit=st.integers(1, 20),
    )
    def test_repeated_it_converges_and_no_shard_moves_twice(
        self, counts: list[int], rates: list[float], limit: int
    ) -> None:
        owner = {
            shard: f"w{n}"
            for n, count in enumerate(counts)
            for shard in range(40 * n, 40 * n + count)
        }
        moved: Counter[int] = Counter()
        gaps: list[int] = []
        for _ in range(200):
            loads = [Load(NodeId(f"w{n}"), True, 0) for n in range(len(counts))]
            for load in loads:
                mine = [(rates[s], s) for s, name in owner.items() if name == load.node_id]
                load.shards, load.movable, load.rate = len(mine), mine, sum(r for r, _ in mine)
            gaps.append(max(x.shards for x in loads) - min(x.shards for x in loads))
            moves = even_out(loads, limit)
            if not moves:
                break
            for shard, source, to in moves:
                assert owner[shard] == source
                owner[shard] = to
                moved[shard] += 1
        assert gaps[-1] <= 1
        assert all(later <= gap for gap, later in pairwise(gaps))
        assert max(moved.values(), default=1) == 1

    def test_only_those_that_take_shards_count_as_the_emptiest(self) -> None:
        loads = loads_of({"a": 6, "b": 4, "c": 0}, takes={"a", "b"})
        assert spread(loads) == pytest.approx((6 - 4) / (10 / 3))
        assert [to for _, _, to in even_out(loads, 99)] == ["b"]
        loads = loads_of({"a": 6, "b": 2}, takes={"b"})
        assert len(even_out(loads, 99)) == 2
        assert even_out(loads_of({"a": 6, "b": 0}, takes=set()), 99) == []
        assert spread(loads_of({"a": 6, "b": 0}, takes=set())) == 0

    def test_what_may_not_move_stays_and_the_next_fullest_gives(self) -> None:
        loads = loads_of({"a": 6, "b": 5, "c": 1})
        loads[0].movable.clear()
        assert even_out(loads, 99) == [(6, "b", "c"), (7, "b", "c")]

    def test_the_shards_that_even_out_the_rates_move(self) -> None:
        busy = Load(NodeId("a"), True, 4, 100.0, [(10.0, 0), (50.0, 1), (40.0, 2), (0.0, 3)])
        idle = Load(NodeId("b"), True, 0)
        assert even_out([busy, idle], 99) == [(1, "a", "b"), (3, "a", "b")]
        assert (busy.rate, idle.rate) == (50.0, 50.0)


class TestWhen:
    def test_an_interval_after_the_election_and_then_every_interval(self) -> None:
        c = Cluster(shards=64, rebalance=RebalanceSettings(threshold=0, max_moves=4)).placed("a")
        c.apply(Deposed())
        c.apply(Elected())
        elected_ns = c.now_ns
        c.join("b")
        c.wait(9_999 * MS)
        assert c.handoffs() == {}
        assert c.decide().wake_at_ns == elected_ns + 10 * SECOND
        c.wait(MS)
        assert len(c.handoffs()) == 4
        c.hand_over()
        assert Counter(c.owners())["b.1"] == 4
        c.wait(9 * SECOND)
        assert c.handoffs() == {}
        c.wait(SECOND)
        assert len(c.handoffs()) == 4

    def test_what_is_under_way_counts_as_moving(self) -> None:
        c = Cluster(shards=64, rebalance=RebalanceSettings(threshold=0, max_moves=40)).placed("a")
        c.join("b")
        c.wait(10 * SECOND)
        assert len(c.handoffs()) == 32
        c.join("c")
        c.join("d")
        c.now_ns += 10 * SECOND
        assert len(c.core.plan(c.now_ns, WALL_MS + c.now_ns // MS).moves) == 8

    def test_growing_and_shrinking_moves_each_shard_once_at_most(self) -> None:
        c = Cluster(shards=64, rebalance=EXACT).placed("a")
        steps: list[list[str | None]] = [c.owners()]
        for name in ("b", "c", "d"):
            c.join(name)
        c.wait(10 * SECOND)
        c.hand_over()
        steps.append(c.owners())
        assert sorted(Counter(c.owners()).values()) == [16, 16, 16, 16]
        moved = sum(old != new for old, new in zip(*steps, strict=True))
        assert moved == 48
        writes = len(c.persists)
        c.wait(100 * SECOND)
        assert len(c.persists) == writes, "even: it rests"
        c.drain("c")
        c.drain("d")
        c.hand_over()
        assert sorted(Counter(c.owners()).values()) == [32, 32]
        assert sum(old != new for old, new in zip(steps[-1], c.owners(), strict=True)) == 32

    def test_not_below_the_threshold(self) -> None:
        c = Cluster(shards=30, rebalance=RebalanceSettings(threshold=2.9)).placed("a", "b")
        c.join("c")
        c.wait(60 * SECOND)
        assert c.handoffs() == {}
        plan = c.core.plan(c.now_ns, WALL_MS + c.now_ns // MS)
        assert plan.spreads == {"t": (1.5, 1.5)}
        assert plan.held_back == "t: the spread 1.50 is not above 2.9"

    def test_never_a_shard_that_moved_lately(self) -> None:
        c = Cluster(shards=8, rebalance=EXACT).placed("a")
        c.join("b")
        c.drain("a")
        c.hand_over()
        c.lose("a")
        c.join("c")
        c.wait(COOLING - SECOND)
        assert set(c.owners()) == {"b.1"}
        assert c.handoffs() == {}
        assert "lately" in c.core.plan(c.now_ns, WALL_MS + c.now_ns // MS).held_back
        c.wait(11 * SECOND)
        assert len(c.handoffs()) == 4

    def test_what_moved_before_this_seed_was_there_is_judged_by_its_epoch(self) -> None:
        c = Cluster(shards=8, rebalance=EXACT).placed("a")
        placed_ns = c.now_ns
        c.join("b")
        c.core = Coordinator(c.settings)
        c.synced()
        c.apply(Elected())
        c.wait(COOLING - SECOND)
        assert c.handoffs() == {}
        c.wait(11 * SECOND)
        assert c.now_ns > placed_ns + COOLING
        assert len(c.handoffs()) == 4


def drains(c: Cluster) -> None:
    c.join("x")
    c.drain("x")


def is_silent(c: Cluster) -> None:
    c.change(c.workers["b"], silent_age_ns=SECOND)


def is_updated(c: Cluster) -> None:
    c.join("x", version="v2")


def is_frozen(c: Cluster) -> None:
    c.order(frozen=True, frozen_reason="black Friday")


def loses_a_drained_one(c: Cluster) -> None:
    c.join("x")
    c.order(pins={("t", 0): NodeId("x")})
    c.hand_over()
    c.order(pins={})
    c.drain("x")
    c.settle()
    c.lose("x")


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (drains, "t: x is draining"),
        (is_silent, "t: b is silent"),
        (is_updated, "t: its workers have different versions (an update is under way)"),
        (is_frozen, "frozen: black Friday"),
        (loses_a_drained_one, "t: shards of a worker that has left are on their way"),
    ],
)
def test_it_is_held_back_and_says_why(happens: Callable[[Cluster], None], reason: str) -> None:
    c = Cluster(shards=32, rebalance=RebalanceSettings(interval_ns=3 * SECOND, threshold=0))
    c.placed("a")
    c.join("b")
    happens(c)
    c.wait(TTL - SECOND)
    assert len(c.handoffs()) <= 1, "but for what x has left"
    plan = c.core.plan(c.now_ns, WALL_MS + c.now_ns // MS)
    assert plan.held_back == reason


def test_a_plan_shows_what_then_happens() -> None:
    c = Cluster(shards=8, rebalance=EXACT).placed("a")
    c.join("b")
    plan = c.core.plan(c.now_ns, WALL_MS + c.now_ns // MS)
    assert plan.held_back == ""
    assert plan.spreads == {"t": (2.0, 0.0)}
    assert {(move.source, move.to) for move in plan.moves} == {("a", "b")}
    c.wait(10 * SECOND)
    assert c.handoffs() == {move.shard: f"{move.to}.1" for move in plan.moves}


def test_a_cordoned_worker_gives_and_takes_none() -> None:
    c = Cluster(shards=12, rebalance=EXACT).placed("a", "b")
    c.order(cordoned=nodes("a"))
    c.join("c")
    c.wait(10 * SECOND)
    c.hand_over()
    c.wait(10 * SECOND)
    c.hand_over()
    assert Counter(c.owners()) == {"a.1": 4, "b.1": 4, "c.1": 4}
