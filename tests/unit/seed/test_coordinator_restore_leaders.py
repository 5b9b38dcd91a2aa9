"""After a restore: many tables, other leaders, generations."""

from __future__ import annotations

from dataclasses import replace

from seedbed.ids import Generation
from seedbed.routing import CHUNK, ShardTable
from seedbed_seed.core.coordinator import MAX_TABLES, Coordinator
from seedbed_seed.core.decisions import Decision, Deposed, Elected, Synced, TableSeen
from tests.unit.seed.cluster import RESTORE_WAIT, WALL_MS, Cluster


def follow(standby: Coordinator, leader: Cluster) -> None:
    """The standby's watch delivers what the leader has written."""
    for table in leader.tables.values():
        standby.apply(TableSeen(table), leader.now_ns)


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
        c.wait(RESTORE_WAIT)
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
        c.wait(RESTORE_WAIT - 1)
        c.apply(Deposed())
        c.apply(Elected())
        c.settle()
        assert set(c.owners()) == {None}
        c.wait(1)
        assert set(c.owners()) == {"a.1"}

    def test_a_seed_that_starts_in_the_middle_waits_from_its_first_snapshot(self) -> None:
        c = self.vacated()
        c.wait(RESTORE_WAIT - 1)
        c.core = Coordinator(c.settings)
        c.apply(Synced(tuple(c.workers.values()), tuple(c.tables.values()), c.contracts))
        c.apply(Elected())
        c.wait(RESTORE_WAIT - 1)
        assert set(c.owners()) == {None}
        c.wait(1)
        assert set(c.owners()) == {"a.1"}

    def test_a_gap_of_the_watch_begins_no_wait_anew(self) -> None:
        c = self.vacated()
        c.wait(RESTORE_WAIT - 1)
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
        c.wait(RESTORE_WAIT)
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
        c.wait(RESTORE_WAIT)
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
