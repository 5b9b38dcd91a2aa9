"""What the coordinator does with a store that went back, came back empty, or lost a table."""

from __future__ import annotations

from dataclasses import replace

from seedbed.ids import Generation
from seedbed.routing import CHUNK, ShardTable
from seedbed_seed.core.coordinator import (
    MAX_TABLES,
    ContractSeen,
    Coordinator,
    Decision,
    Deposed,
    Elected,
    Synced,
    TableGone,
    TableSeen,
)
from seedbed_seed.core.membership import Status
from tests.unit.seed.cluster import SECOND, TTL, WALL_MS, Cluster

WAIT = TTL + SECOND
"""A lease's length, and how late the store may end it."""


def follow(standby: Coordinator, leader: Cluster) -> None:
    """The standby's watch delivers what the leader has written."""
    for table in leader.tables.values():
        standby.apply(TableSeen(table), leader.now_ns)


class TestVolatileShards:
    def test_have_no_owner_first_and_another_one_a_ttl_later(self) -> None:
        c = Cluster().placed("a", "b")
        backup, before = dict(c.tables), max(c.epochs())
        c.restore(backup, "a", "b")
        assert c.settle() == 1
        vacated = c.epochs()
        assert set(c.owners()) == {None}
        assert min(vacated) > before
        assert c.decide() == Decision(wake_at_ns=c.now_ns + WAIT)
        assert c.core.movable_at_ns("t", 0, c.now_ns) == c.now_ns + WAIT
        c.wait(WAIT - 1)
        assert set(c.owners()) == {None}
        c.wait(1)
        assert set(c.owners()) == {"a.1", "b.1"}
        assert min(c.epochs()) > max(vacated)
        assert c.settle() == 0

    def test_wait_from_when_the_table_without_owners_is_seen_not_from_the_restore(self) -> None:
        c = Cluster().placed("a")
        c.restore(dict(c.tables), "a")
        c.apply(Deposed())
        c.wait(10 * WAIT)
        c.apply(Elected())
        c.settle()
        c.wait(WAIT - 1)
        assert set(c.owners()) == {None}

    def test_wait_whoever_owned_them_last_as_far_as_this_seed_knows(self) -> None:
        """Its watch may have lagged: that the backup says the same proves nothing."""
        c = Cluster().placed("a")
        c.restore(dict(c.tables), "a")
        c.settle()
        assert set(c.owners()) == {None}

    def test_do_not_wait_with_evidence_all_and_nothing_else_comes_before(self) -> None:
        c = Cluster(evidence="all", shards=2 * CHUNK, types=("t", "u")).placed("a", "b")
        backup = dict(c.tables)
        c.lose("a")
        c.settle()
        handed_out = max(c.epochs())
        c.restore(backup, "b")
        persist = c.decide().persist
        assert persist is not None
        assert len(persist.tables) == 4
        c.write(persist)
        assert set(c.owners()) == {"a.1", "b.1"}
        assert min(c.epochs()) > handed_out
        c.settle()
        assert set(c.owners()) == {"b.1"}

    def test_are_given_to_none_that_drains_or_has_left(self) -> None:
        c = Cluster().placed("a", "b", "c")
        c.change(c.workers["a"], status=Status.DRAINING)
        c.change(c.workers["b"], status=Status.LEFT)
        c.restore(dict(c.tables), "a", "b", "c")
        c.settle()
        c.wait(WAIT)
        assert set(c.owners()) == {"c.1"}

    def test_wait_anew_after_another_restore_in_the_middle(self) -> None:
        c = Cluster().placed("a")
        c.restore(dict(c.tables), "a")
        c.settle()
        ownerless, first = dict(c.tables), max(c.epochs())
        c.wait(WAIT - 1)
        c.restore(ownerless, "a")
        assert c.settle() == 1
        assert min(c.epochs()) > first
        c.wait(WAIT - 1)
        assert set(c.owners()) == {None}
        c.wait(1)
        assert set(c.owners()) == {"a.1"}

    def test_with_min_workers_wait_for_them_too(self) -> None:
        c = Cluster(min_workers=2).placed("a", "b")
        c.restore(dict(c.tables), "a")
        c.settle()
        c.wait(2 * WAIT)
        assert set(c.owners()) == {None}
        c.join("b", life=2)
        c.settle()
        assert set(c.owners()) == {"a.1", "b.2"}


class TestDurableShards:
    def test_keep_their_owner_at_once_in_a_new_epoch(self) -> None:
        c = Cluster().placed("a", "b", durable=True)
        owners, before = c.owners(), max(c.epochs())
        c.change(c.workers["a"], status=Status.DRAINING)
        c.restore(dict(c.tables), "a", "b")
        assert c.settle() == 1
        assert c.owners() == owners
        assert min(c.epochs()) > before

    def test_of_an_owner_whose_record_is_not_there_or_has_left_move_at_once(self) -> None:
        c = Cluster().placed("a", "b", "c", durable=True)
        c.change(c.workers["b"], status=Status.LEFT)
        c.restore(dict(c.tables), "b", "c")
        assert c.settle() == 2
        assert set(c.owners()) == {"c.1"}

    def test_stay_while_volatile_ones_of_the_same_table_wait(self) -> None:
        c = Cluster()
        c.join("a", durable=True)
        c.join("b")
        c.wait(SECOND)
        before = c.owners()
        c.restore(dict(c.tables), "a", "b")
        assert c.settle() == 1
        assert c.owners() == [owner if owner == "a.1" else None for owner in before]
        c.wait(WAIT)
        assert None not in c.owners()

    def test_wait_if_their_last_owner_said_that_they_are_volatile(self) -> None:
        c = Cluster().placed("a", durable=True)
        backup = dict(c.tables)
        c.join("b")
        c.lose("a")
        c.wait(SECOND)
        assert set(c.owners()) == {"b.1"}
        c.restore(backup, "b")
        c.settle()
        assert set(c.owners()) == {None}

    def test_wait_so_also_after_another_restore_before_anything_was_written(self) -> None:
        c = Cluster().placed("a", durable=True)
        backup = dict(c.tables)
        c.join("b")
        c.lose("a")
        c.wait(SECOND)
        for _ in range(2):
            c.restore(backup, "b")
        c.settle()
        assert set(c.owners()) == {None}


class TestTablesThatAreGone:
    def test_come_back_without_owners_first(self) -> None:
        c = Cluster().placed("a")
        high = max(c.epochs())
        c.restore({}, "a")
        decision = c.core.decide(c.now_ns, 1)
        assert decision.persist is not None
        c.write(decision.persist)
        assert set(c.owners()) == {None}
        assert min(c.epochs()) > high
        c.wait(WAIT - 1)
        assert set(c.owners()) == {None}
        c.wait(1)
        assert set(c.owners()) == {"a.1"}

    def test_whose_owners_were_durable_are_placed_at_once_and_above_all_before(self) -> None:
        c = Cluster().placed("a", durable=True)
        high = max(c.epochs())
        c.restore({}, "a")
        decision = c.core.decide(c.now_ns, 1)
        assert decision.persist is not None
        c.write(decision.persist)
        assert set(c.owners()) == {"a.1"}
        assert min(c.epochs()) > high

    def test_wait_as_a_whole_if_any_owner_was_volatile(self) -> None:
        c = Cluster()
        c.join("a", durable=True)
        c.join("b")
        c.wait(SECOND)
        high = max(c.epochs())
        c.restore({}, "a", "b")
        c.settle()
        assert set(c.owners()) == {None}
        assert min(c.epochs()) > high

    def test_come_back_once_their_type_is_known_again(self) -> None:
        c = Cluster().placed("a")
        contracts, c.contracts = c.contracts, ()
        c.restore({})
        assert c.decide() == Decision()
        c.now_ns += 2 * WAIT
        c.apply(contracts[0])
        c.join("a", life=2, types=("t",))
        c.settle()
        assert set(c.owners()) == {None}
        c.wait(WAIT)
        assert set(c.owners()) == {"a.2"}

    def test_of_a_type_that_comes_soon_after_and_was_never_seen_wait_too(self) -> None:
        c = Cluster()
        c.restore({})
        c.wait(TTL - 1)
        c.apply(ContractSeen("new", 8, "sharding"))
        c.settle()
        assert set(c.owners("new")) == {None}

    def test_of_a_type_that_comes_later_are_placed_as_ever(self) -> None:
        c = Cluster()
        c.restore({})
        c.wait(TTL)
        c.apply(ContractSeen("new", 8, "sharding"))
        c.join("a", types=("new",))
        c.wait(SECOND)
        assert set(c.owners("new")) == {"a.1"}

    def test_by_somebodys_hand_wait_as_well(self) -> None:
        c = Cluster().placed("a")
        c.tables.clear()
        c.apply(TableGone("t", 0))
        c.settle()
        assert set(c.owners()) == {None}
        c.wait(WAIT)
        assert set(c.owners()) == {"a.1"}

    def test_in_a_gap_of_the_watch_wait_as_well(self) -> None:
        c = Cluster().placed("a")
        c.tables.clear()
        c.apply(Synced(tuple(c.workers.values()), (), c.contracts))
        c.settle()
        assert set(c.owners()) == {None}


class TestManyTables:
    def test_are_written_again_in_as_many_writes_as_it_takes(self) -> None:
        c = Cluster(shards=(MAX_TABLES + 2) * CHUNK).placed("a")
        high = max(c.epochs())
        c.persists.clear()
        c.restore(dict(c.tables), "a")
        assert c.settle() == 2
        assert [len(persist.tables) for persist in c.persists] == [MAX_TABLES, 2]
        assert set(c.owners()) == {None}
        assert min(c.epochs()) > high
        c.wait(WAIT)
        assert set(c.owners()) == {"a.1"}

    def test_that_a_leader_left_half_done_are_finished_by_the_next(self) -> None:
        c = Cluster(shards=(MAX_TABLES + 2) * CHUNK).placed("a")
        c.restore(dict(c.tables), "a")
        persist = c.decide().persist
        assert persist is not None
        c.write(persist)
        c.apply(Deposed())
        c.apply(Elected())
        assert c.settle() == 1
        assert set(c.owners()) == {None}


class TestOtherLeaders:
    def vacated(self) -> Cluster:
        c = Cluster().placed("a")
        c.restore(dict(c.tables), "a")
        c.settle()
        assert set(c.owners()) == {None}
        return c

    def test_a_change_of_leader_in_the_middle_loses_and_adds_nothing(self) -> None:
        c = self.vacated()
        c.wait(WAIT - 1)
        c.apply(Deposed())
        c.apply(Elected())
        c.settle()
        assert set(c.owners()) == {None}
        c.wait(1)
        assert set(c.owners()) == {"a.1"}

    def test_a_seed_that_starts_in_the_middle_waits_from_its_first_snapshot(self) -> None:
        c = self.vacated()
        c.wait(WAIT - 1)
        c.core = Coordinator(c.settings)
        c.apply(Synced(tuple(c.workers.values()), tuple(c.tables.values()), c.contracts))
        c.apply(Elected())
        c.wait(WAIT - 1)
        assert set(c.owners()) == {None}
        c.wait(1)
        assert set(c.owners()) == {"a.1"}

    def test_a_gap_of_the_watch_begins_no_wait_anew(self) -> None:
        c = self.vacated()
        c.wait(WAIT - 1)
        c.apply(Synced(tuple(c.workers.values()), tuple(c.tables.values()), c.contracts))
        c.wait(1)
        assert set(c.owners()) == {"a.1"}

    def test_a_standby_that_saw_it_done_does_nothing_when_it_leads(self) -> None:
        c = Cluster().placed("a")
        standby = Cluster(leads=False)
        standby.change(c.workers["a"])
        follow(standby.core, c)
        standby.workers, standby.now_ns = dict(c.workers), c.now_ns
        backup = dict(c.tables)
        for one in (standby, c):
            one.restore(backup, "a")
        c.settle()
        follow(standby.core, c)
        c.wait(WAIT)
        follow(standby.core, c)
        standby.apply(Elected())
        assert standby.decide() == Decision()

    def test_nor_does_one_that_notices_when_all_is_done(self) -> None:
        c = Cluster().placed("a")
        standby = Cluster(leads=False)
        standby.change(c.workers["a"])
        follow(standby.core, c)
        standby.workers, standby.now_ns = dict(c.workers), c.now_ns
        c.restore(dict(c.tables), "a")
        c.settle()
        c.wait(WAIT)
        standby.restore(c.tables, "a")
        standby.apply(Elected())
        assert standby.decide() == Decision()


class TestGenerations:
    def test_leap_over_what_a_faster_clock_may_have_written_unseen(self) -> None:
        c = Cluster().placed("a", durable=True)
        c.restore(dict(c.tables), "a")
        persist = c.decide().persist
        assert persist is not None
        assert persist.tables[0].generation > WALL_MS + c.now_ns // 1_000_000 + 30_000

    def test_are_above_the_lost_ones_that_were_seen(self) -> None:
        c = Cluster().placed("a", durable=True)
        backup = dict(c.tables)
        ahead: ShardTable = replace(c.tables["t", 0], generation=Generation(1 << 50))
        c.apply(TableSeen(ahead))
        c.restore(backup, "a")
        persist = c.decide().persist
        assert persist is not None
        assert persist.tables[0].generation > 1 << 50
