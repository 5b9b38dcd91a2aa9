"""Shards of workers that drain: when their hand-offs begin, when they end, and where they go."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from seedbed.ids import Epoch, Generation, Incarnation
from seedbed.routing import CHUNK, Handoff
from seedbed_seed.core.coordinator import Coordinator
from seedbed_seed.core.decisions import Elected
from seedbed_seed.core.membership import Release, Status
from tests.unit.seed.cluster import LIMIT, MS, SECOND, TTL, Cluster, nodes


class TestBeginning:
    def test_a_drain_hands_off_everything_in_one_write_and_no_epoch_changes(self) -> None:
        c = Cluster(shards=2 * CHUNK, types=("t", "u")).placed("a", "b", "c")
        before = c.owners(), c.epochs()
        writes = len(c.persists)
        c.drain("a")
        assert c.settle() == 1
        assert len(c.persists[writes].tables) == 4
        assert (c.owners(), c.epochs()) == before
        mine = {shard for shard, owner in enumerate(before[0]) if owner == "a.1"}
        assert c.handoffs().keys() == mine
        assert all(one.limit_ms == LIMIT // MS for one in c.tables["t", 0].handoffs.values())

    def test_what_is_on_its_way_counts_where_it_goes(self) -> None:
        c = Cluster(shards=12).placed("a", "b", "c", "d")
        c.drain("a")
        c.settle()
        c.drain("b")
        c.settle()
        bound = Counter(c.handoffs().values())
        assert bound["c.1"] + bound["d.1"] >= 5
        c.hand_over()
        assert Counter(c.owners()) == {"c.1": 6, "d.1": 6}

    def test_the_busiest_are_spread_best(self) -> None:
        c = Cluster(shards=12).placed("a", "b", "c")
        busy = [shard for shard, owner in enumerate(c.owners()) if owner == "a.1"][::2]
        c.change(c.workers["a"], rates={("t", shard): 100.0 for shard in busy})
        c.drain("a")
        c.settle()
        assert Counter(c.handoffs()[shard] for shard in busy) == {"b.1": 1, "c.1": 1}

    def test_an_order_drains_a_node_like_its_own_wish(self) -> None:
        c = Cluster().placed("a", "b")
        c.order(draining=nodes("a"))
        c.hand_over()
        assert set(c.owners()) == {"b.1"}
        assert c.workers["a"].status is Status.UP

    def test_nothing_goes_to_a_worker_that_is_closed_or_silent(self) -> None:
        c = Cluster().placed("a", "b", "c", "d", "e")
        c.order(cordoned=nodes("b"), draining=nodes("c"))
        c.change(c.workers["d"], silent_age_ns=SECOND)
        c.drain("a")
        c.settle()
        assert set(c.handoffs().values()) == {"e.1"}

    def test_a_drain_with_nowhere_to_go_says_so_and_is_still_served(self) -> None:
        c = Cluster(types=("t", "u"))
        c.placed("a")
        c.join("b", types=("u",))
        assert c.core.stuck() == frozenset()
        c.drain("a")
        c.hand_over()
        assert c.core.stuck() == {("a", "t")}
        assert c.core.without_workers() == frozenset()
        assert set(c.owners("u")) == {"b.1"}
        assert set(c.owners("t")) == {"a.1"}
        c.join("c")
        c.hand_over()
        assert c.core.stuck() == frozenset()
        assert set(c.owners("t")) == {"c.1"}


class TestEnding:
    def test_each_shard_ends_with_its_own_release_in_a_new_epoch(self) -> None:
        c = Cluster().placed("a", "b")
        before = c.epochs()
        c.drain("a")
        c.settle()
        first, *rest = c.handoffs()
        c.release("a", first)
        c.settle()
        assert c.handoffs().keys() == set(rest)
        assert c.owners()[first] == "b.1"
        epochs = enumerate(zip(before, c.epochs(), strict=True))
        assert [shard for shard, (old, new) in epochs if old != new] == [first]

    def test_a_release_in_another_epoch_says_nothing(self) -> None:
        c = Cluster().placed("a", "b")
        c.drain("a")
        c.settle()
        stale = frozenset(
            Release("t", shard, Epoch(c.epochs()[shard] - 1)) for shard in c.handoffs()
        )
        c.change(c.workers["a"], released=stale)
        assert c.settle() == 0

    def test_a_release_counts_although_the_record_is_gone_since(self) -> None:
        c = Cluster().placed("a", "b")
        c.drain("a")
        c.settle()
        c.release("a")
        c.lose("a")
        c.settle()
        assert set(c.owners()) == {"b.1"}

    def test_at_the_limit_and_a_ttl_it_ends_whatever_the_owner_does(self) -> None:
        c = Cluster().placed("a", "b")
        c.drain("a")
        c.settle()
        assert c.decide().wake_at_ns == c.now_ns + LIMIT + TTL
        c.wait(LIMIT + TTL - 1)
        assert "a.1" in c.owners()
        c.wait(1)
        assert set(c.owners()) == {"b.1"}

    def test_the_time_counts_from_when_this_seed_saw_this_epochs_hand_off(self) -> None:
        c = Cluster().placed("a", "b")
        c.drain("a")
        c.settle()
        c.now_ns += LIMIT + TTL - 1
        c.core = Coordinator(c.settings)
        c.synced()
        c.apply(Elected())
        c.wait(LIMIT + TTL - 1)
        assert "a.1" in c.owners(), "a new leader has seen it only now"
        table = c.tables["t", 0]
        later = table.generation + 1
        c.tables["t", 0] = replace(
            table, generation=Generation(later), epoch=(Epoch(later),) * 8, revision=c.revision
        )
        c.synced()
        c.wait(LIMIT + TTL - 1)
        assert "a.1" in c.owners(), "it has ended and begun again in a gap"
        c.wait(1)
        assert set(c.owners()) == {"b.1"}

    def test_a_lost_owner_frees_its_shards_as_ever_and_they_go_where_they_were_to_go(self) -> None:
        c = Cluster(evidence="all").placed("a", "b", "c")
        c.drain("a")
        c.settle()
        bound = c.handoffs()
        c.join("d")
        c.lose("a")
        assert c.settle() == 1
        assert {shard: c.owners()[shard] for shard in bound} == bound
        assert c.handoffs() == {}

    def test_if_the_next_owner_is_gone_it_goes_to_another(self) -> None:
        c = Cluster().placed("a", "b", "c")
        c.drain("a")
        c.settle()
        c.drain("b")
        c.hand_over()
        assert set(c.owners()) == {"c.1"}

    def test_if_there_is_nobody_it_stays_in_a_new_epoch(self) -> None:
        c = Cluster().placed("a", "b")
        c.drain("a")
        c.settle()
        bound, before = c.handoffs(), c.epochs()
        c.order(cordoned=nodes("b"))
        c.release("a")
        c.settle()
        assert c.handoffs() == {}
        for shard in bound:
            assert c.owners()[shard] == "a.1"
            assert c.epochs()[shard] > before[shard]
        assert c.core.stuck() == {("a", "t")}

    def test_a_shard_handed_off_by_a_lost_volatile_owner_promises_the_earlier_time(self) -> None:
        c = Cluster().placed("a", "b")
        c.drain("a")
        c.settle()
        shard = next(iter(c.handoffs()))
        c.now_ns += LIMIT + SECOND
        c.lose("a")
        assert c.core.movable_at_ns("t", shard, c.now_ns) == c.now_ns + TTL - SECOND

    def test_a_hand_off_of_a_foreign_limit_is_honoured(self) -> None:
        c = Cluster().placed("a", "b")
        shard = c.owners().index("a.1")
        table = c.tables["t", 0]
        c.tables["t", 0] = replace(
            table,
            generation=Generation(table.generation + 1),
            handoffs={shard: Handoff(Incarnation("b.1"), 30_000)},
        )
        c.synced()
        c.wait(30 * SECOND + TTL - 1)
        assert c.owners()[shard] == "a.1"
        c.wait(1)
        assert c.owners()[shard] == "b.1"
