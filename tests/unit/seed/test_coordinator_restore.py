"""Tables after a store was restored: who owns what, from when on."""

from __future__ import annotations

from seedbed.routing import CHUNK
from seedbed_seed.core.decisions import ContractSeen, Decision, Deposed, Elected, Synced, TableGone
from seedbed_seed.core.membership import Status
from tests.unit.seed.cluster import RESTORE_WAIT, SECOND, TTL, Cluster


class TestVolatileShards:
    def test_have_no_owner_first_and_another_one_a_ttl_later(self) -> None:
        c = Cluster().placed("a", "b")
        backup, before = dict(c.tables), max(c.epochs())
        c.restore(backup, "a", "b")
        assert c.settle() == 1
        vacated = c.epochs()
        assert set(c.owners()) == {None}
        assert min(vacated) > before
        assert c.decide() == Decision(wake_at_ns=c.now_ns + RESTORE_WAIT)
        assert c.core.movable_at_ns("t", 0, c.now_ns) == c.now_ns + RESTORE_WAIT
        c.wait(RESTORE_WAIT - 1)
        assert set(c.owners()) == {None}
        c.wait(1)
        assert set(c.owners()) == {"a.1", "b.1"}
        assert min(c.epochs()) > max(vacated)
        assert c.settle() == 0

    def test_wait_from_when_the_table_without_owners_is_seen_not_from_the_restore(self) -> None:
        c = Cluster().placed("a")
        c.restore(dict(c.tables), "a")
        c.apply(Deposed())
        c.wait(10 * RESTORE_WAIT)
        c.apply(Elected())
        c.settle()
        c.wait(RESTORE_WAIT - 1)
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
        c.wait(RESTORE_WAIT)
        assert set(c.owners()) == {"c.1"}

    def test_wait_anew_after_another_restore_in_the_middle(self) -> None:
        c = Cluster().placed("a")
        c.restore(dict(c.tables), "a")
        c.settle()
        ownerless, first = dict(c.tables), max(c.epochs())
        c.wait(RESTORE_WAIT - 1)
        c.restore(ownerless, "a")
        assert c.settle() == 1
        assert min(c.epochs()) > first
        c.wait(RESTORE_WAIT - 1)
        assert set(c.owners()) == {None}
        c.wait(1)
        assert set(c.owners()) == {"a.1"}

    def test_with_min_workers_wait_for_them_too(self) -> None:
        c = Cluster(min_workers=2).placed("a", "b")
        c.restore(dict(c.tables), "a")
        c.settle()
        c.wait(2 * RESTORE_WAIT)
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
        assert c.settle() == 2, "then everything of a is handed off"
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
        c.wait(RESTORE_WAIT)
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
        c.wait(RESTORE_WAIT - 1)
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
        c.now_ns += 2 * RESTORE_WAIT
        c.apply(contracts[0])
        c.join("a", life=2, types=("t",))
        c.settle()
        assert set(c.owners()) == {None}
        c.wait(RESTORE_WAIT)
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
        c.wait(RESTORE_WAIT)
        assert set(c.owners()) == {"a.1"}

    def test_in_a_gap_of_the_watch_wait_as_well(self) -> None:
        c = Cluster().placed("a")
        c.tables.clear()
        c.apply(Synced(tuple(c.workers.values()), (), c.contracts))
        c.settle()
        assert set(c.owners()) == {None}
