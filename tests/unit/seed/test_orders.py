"""Pins and ordered moves."""

from __future__ import annotations

from collections import Counter

import pytest

from seedbed.ids import NodeId
from seedbed_seed.core.decisions import (
    Deposed,
    Elected,
    MovesOrdered,
    PersistFailed,
    RebalanceSettings,
    ShardMove,
)
from seedbed_seed.core.membership import Status
from tests.unit.seed.cluster import SECOND, Cluster, nodes


def pins(node: str, *shards: int) -> dict[tuple[str, int], NodeId]:
    return {("t", shard): NodeId(node) for shard in shards}


def move(shard: int, to: str, type_: str = "t") -> ShardMove:
    return ShardMove(type_, shard, NodeId(to))


class TestPins:
    def test_a_pinned_shard_is_handed_off_at_once_whatever_has_moved_lately(self) -> None:
        c = Cluster().placed("a", "b")
        shard = c.owners().index("a.1")
        for name in ("b", "a", "b"):
            c.order(pins=pins(name, shard))
            assert c.settle() == 1
            assert c.handoffs() == {shard: f"{name}.1"}
            c.hand_over()
            assert c.owners()[shard] == f"{name}.1"

    def test_placement_and_re_homing_honour_them(self) -> None:
        c = Cluster(evidence="all")
        c.order(pins=pins("b", 0, 1, 2, 3, 4, 5))
        c.placed("a", "b", "c")
        assert Counter(c.owners()) == {"a.1": 1, "b.1": 6, "c.1": 1}
        c.lose("b")
        c.settle()
        assert "b.1" not in c.owners(), "a pin to a node that is not there stops nothing"
        c.join("b", life=2)
        c.hand_over()
        assert c.owners()[:6] == ["b.2"] * 6

    def test_a_pin_to_a_closed_node_waits(self) -> None:
        c = Cluster().placed("a", "b")
        shard = c.owners().index("a.1")
        c.order(pins=pins("b", shard), cordoned=nodes("b"))
        c.order(pins=pins("b", shard), cordoned=nodes(), draining=nodes("b"))
        c.hand_over()
        assert c.owners()[shard] == "a.1"
        c.order(draining=nodes())
        c.hand_over()
        assert c.owners()[shard] == "b.1"

    def test_a_pin_overrides_versions(self) -> None:
        c = Cluster().placed("a", "b")
        c.join("old", version="v1", revision="1")
        c.join("new", version="v2", revision="2")
        c.order(pins=pins("old", 0))
        c.settle()
        assert c.handoffs() == {0: "old.1"}

    def test_a_rebalance_leaves_them_alone(self) -> None:
        c = Cluster(rebalance=RebalanceSettings(threshold=0)).placed("a")
        c.order(pins=pins("a", *range(7)))
        c.join("b")
        c.wait(10 * SECOND)
        assert c.handoffs() == {7: "b.1"}

    def test_a_pin_that_makes_no_sense_harms_nothing(self) -> None:
        c = Cluster().placed("a", "b")
        c.order(pins={("x", 0): NodeId("a"), ("t", 8): NodeId("a"), ("t", 5000): NodeId("a")})
        assert c.settle() == 0


class TestMoves:
    def test_begin_once_all_in_one_write(self) -> None:
        c = Cluster().placed("a", "b", "c")
        mine = [n for n, owner in enumerate(c.owners()) if owner == "a.1"]
        c.apply(MovesOrdered(tuple(move(shard, "b") for shard in mine)))
        assert c.settle() == 1
        assert c.handoffs() == dict.fromkeys(mine, "b.1")
        c.drain("b")
        c.hand_over()
        assert "b.1" not in c.owners()
        c.change(c.workers["b"], status=Status.UP)
        assert c.settle() == 0, "a move is not a pin"

    def test_a_write_that_failed_is_repeated_but_not_by_another_leader(self) -> None:
        c = Cluster().placed("a", "b")
        shard = c.owners().index("a.1")
        c.apply(MovesOrdered((move(shard, "b"),)))
        assert c.decide().persist is not None
        c.apply(PersistFailed())
        c.now_ns += SECOND
        assert c.decide().persist is not None
        c.apply(Deposed())
        c.apply(Elected())
        assert c.decide().persist is None

    def test_one_that_cannot_begin_is_dropped(self) -> None:
        c = Cluster().placed("a", "b")
        shard = c.owners().index("a.1")
        c.order(cordoned=nodes("b"))
        c.apply(MovesOrdered((move(shard, "b"), move(99, "a"), move(0, "a", "x"))))
        assert c.settle() == 0
        c.order(cordoned=nodes())
        assert c.settle() == 0

    @pytest.mark.parametrize(
        ("wanted", "reason"),
        [
            (move(0, "a", "x"), "x/0 cannot move to a: there is no such type"),
            (move(8, "a"), "t/8 cannot move to a: the type has shards 0 to 7"),
            (move(0, "z"), "there is no such worker"),
            (move(0, "other"), "the worker does not host the type under role sharding"),
            (move(0, "cordoned"), "the worker is cordoned; uncordon it first"),
            (move(0, "ordered"), "the worker is draining"),
            (move(0, "draining"), "the worker is draining"),
            (move(0, "joining"), "the worker is JOINING, and not UP"),
            (move(1, "b"), "it is being handed off to b already"),
            (move(2, "b"), "it is pinned to a; unpin it first"),
            (move(3, "a"), "nobody owns the shard now"),
            (move(0, "b"), ""),
            (move(0, "a"), ""),
        ],
    )
    def test_why_not_is_said_in_words(self, wanted: ShardMove, reason: str) -> None:
        c = Cluster()
        c.order(pins=pins("lost", 3))
        c.join("lost")
        c.placed("a")
        c.order(pins=pins("a", *range(8)))
        c.hand_over()
        c.join("b")
        for name in ("cordoned", "ordered"):
            c.join(name)
        c.join("draining", status=Status.DRAINING)
        c.join("joining", status=Status.JOINING)
        c.join("other", types=("u",))
        c.order(pins=pins("lost", 3), cordoned=nodes("cordoned"), draining=nodes("ordered"))
        c.hand_over()
        c.lose("lost")
        c.order(pins=pins("a", 2))
        c.apply(MovesOrdered((move(1, "b"),)))
        c.settle()
        why = c.core.why_not([wanted])
        assert (reason in why) if reason else (why == "")
