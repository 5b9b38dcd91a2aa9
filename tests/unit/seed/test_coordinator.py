"""Who is given which shard, when, and in which epoch."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from seedbed.ids import Epoch, Generation, Incarnation
from seedbed.routing import CHUNK, Handoff
from seedbed_seed.core.coordinator import MAX_TABLES, Coordinator
from seedbed_seed.core.decisions import (
    ContractSeen,
    Decision,
    Deposed,
    Elected,
    EpochReported,
    Persisted,
    PersistFailed,
    Synced,
    TableGone,
    TableSeen,
)
from seedbed_seed.core.membership import Status
from tests.unit.seed.cluster import MS, SECOND, TTL, WALL_MS, Cluster


class TestPlacementFromNothing:
    def test_waits_half_a_second_after_the_last_join(self) -> None:
        c = Cluster()
        c.join("a")
        assert c.decide() == Decision(wake_at_ns=c.now_ns + 500 * MS)
        c.now_ns += 400 * MS
        c.join("b")
        assert c.decide() == Decision(wake_at_ns=c.now_ns + 500 * MS)
        c.wait(500 * MS)
        assert Counter(c.owners()) == {"a.1": 4, "b.1": 4}

    def test_waits_for_workers_that_are_joining_too(self) -> None:
        c = Cluster()
        c.join("a")
        c.now_ns += 400 * MS
        joining = c.join("b", status=Status.JOINING)
        c.wait(400 * MS)
        assert c.owners() == []
        c.change(joining, status=Status.UP)
        c.wait(500 * MS)
        assert Counter(c.owners()) == {"a.1": 4, "b.1": 4}

    def test_begins_five_seconds_after_the_first_whoever_still_joins(self) -> None:
        c = Cluster()
        for n in range(13):
            c.join(f"w{n:02}")
            c.wait(400 * MS)
        assert None not in c.owners()
        assert c.persists

    def test_waits_for_min_workers_and_then_for_nothing_else(self) -> None:
        c = Cluster(min_workers=3)
        c.join("a")
        c.join("b")
        c.wait(60 * SECOND)
        assert c.owners() == []
        assert c.core.without_workers() == {"t"}
        c.join("c")
        c.settle()
        assert sorted(Counter(c.owners()).values()) == [2, 3, 3]
        assert c.core.without_workers() == frozenset()

    def test_is_one_write_for_all_types_and_chunks(self) -> None:
        c = Cluster(shards=3 * CHUNK, types=("t", "u"))
        c.placed("a", "b")
        assert len(c.persists) == 1
        assert len(c.persists[0].tables) == 6
        for type_ in ("t", "u"):
            assert Counter(c.owners(type_)) == {"a.1": 3 * CHUNK // 2, "b.1": 3 * CHUNK // 2}

    def test_only_workers_that_are_up_and_host_the_type_in_its_role_count(self) -> None:
        c = Cluster()
        c.join("joining", status=Status.JOINING)
        c.join("draining", status=Status.DRAINING)
        c.join("other", types=("u",))
        c.change(c.join("roleless"), roles=frozenset[str]())
        c.wait(SECOND)
        assert c.owners() == []
        assert c.core.without_workers() == {"t"}
        c.join("up")
        c.wait(SECOND)
        assert set(c.owners()) == {"up.1"}

    def test_more_tables_than_a_transaction_holds_take_more_than_one(self) -> None:
        c = Cluster(shards=(MAX_TABLES + 2) * CHUNK)
        c.placed("a")
        assert [len(p.tables) for p in c.persists] == [MAX_TABLES, 2]


class TestLossOfAnOwner:
    def test_volatile_shards_wait_a_ttl_after_a_deletion_without_a_mark(self) -> None:
        c = Cluster().placed("a", "b")
        before = c.epochs()
        c.lose("a")
        gone_ns = c.now_ns
        assert c.decide() == Decision(wake_at_ns=gone_ns + TTL)
        assert c.core.unreachable() == {"a.1"}
        assert c.core.movable_at_ns("t", c.owners().index("a.1"), c.now_ns) == gone_ns + TTL
        c.wait(TTL - 1)
        assert Counter(c.owners()) == {"a.1": 4, "b.1": 4}
        c.wait(1)
        assert set(c.owners()) == {"b.1"}
        assert all(new >= old for new, old in zip(c.epochs(), before, strict=True))

    def test_after_a_mark_they_wait_for_what_was_left_of_the_ttl(self) -> None:
        c = Cluster().placed("a", "b")
        c.change(c.workers["a"], silent_age_ns=2 * SECOND)
        marked_ns = c.now_ns
        c.wait(SECOND)
        assert c.core.unreachable() == {"a.1"}
        c.lose("a")
        c.wait(TTL - 3 * SECOND - 1)
        assert "a.1" in c.owners()
        assert c.now_ns == marked_ns + TTL - 2 * SECOND - 1
        c.wait(1)
        assert set(c.owners()) == {"b.1"}

    def test_a_silent_owner_keeps_its_shards_while_its_record_is_there(self) -> None:
        c = Cluster(evidence="all").placed("a", "b", durable=True)
        c.change(c.workers["a"], silent_age_ns=TTL)
        c.wait(10 * TTL)
        assert "a.1" in c.owners()
        assert c.core.unreachable() == {"a.1"}

    def test_a_mark_that_a_resume_cleared_counts_no_more(self) -> None:
        c = Cluster().placed("a", "b")
        c.change(c.workers["a"], silent_age_ns=4 * SECOND)
        c.change(c.workers["a"], silent_age_ns=None, stream_id="2")
        assert c.core.unreachable() == frozenset()
        c.lose("a")
        c.wait(TTL - 1)
        assert "a.1" in c.owners()

    def test_a_rewritten_record_with_the_same_mark_does_not_begin_it_anew(self) -> None:
        c = Cluster().placed("a", "b")
        marked = c.change(c.workers["a"], silent_age_ns=2 * SECOND)
        c.wait(2 * SECOND)
        c.change(marked, status=Status.DRAINING)
        c.lose("a")
        c.wait(SECOND)
        assert set(c.owners()) == {"b.1"}

    def test_durable_shards_move_at_once(self) -> None:
        c = Cluster().placed("a", "b", durable=True)
        c.lose("a")
        assert c.settle() == 1
        assert set(c.owners()) == {"b.1"}

    def test_whether_a_shard_is_durable_is_its_owners_word(self) -> None:
        c = Cluster().placed("a")
        c.join("b", durable=True)
        c.lose("a")
        assert c.settle() == 0

    def test_all_shards_move_at_once_with_evidence_all(self) -> None:
        c = Cluster(evidence="all").placed("a", "b")
        c.lose("a")
        c.settle()
        assert set(c.owners()) == {"b.1"}

    def test_goodbye_lets_them_move_at_once_and_before_the_record_is_gone(self) -> None:
        c = Cluster().placed("a", "b")
        c.change(c.workers["a"], status=Status.DRAINING)
        c.settle()
        assert "a.1" in c.owners(), "a draining worker keeps what it has not released"
        c.change(c.workers["a"], status=Status.LEFT)
        c.settle()
        assert set(c.owners()) == {"b.1"}
        assert c.persists[-1].gone == (), "its record is still there"
        c.lose("a")
        assert c.settle() == 0

    def test_a_successor_with_proof_lets_them_move_at_once(self) -> None:
        c = Cluster().placed("a", "b")
        c.lose("a")
        c.join("a", life=2, replaced="a.1")
        c.settle()
        assert Counter(c.owners()) == {"a.2": 4, "b.1": 4}

    def test_a_successors_proof_counts_once_it_can_take_shards_itself(self) -> None:
        c = Cluster().placed("a", "b")
        c.lose("a")
        successor = c.join("a", status=Status.JOINING, life=2, replaced="a.1")
        assert c.settle() == 0, "else b would get everything"
        c.change(successor, status=Status.UP)
        c.settle()
        assert Counter(c.owners()) == {"a.2": 4, "b.1": 4}

    def test_a_successor_without_proof_does_not(self) -> None:
        c = Cluster().placed("a", "b")
        c.join("a", life=2)
        assert c.settle() == 0
        c.wait(TTL)
        assert Counter(c.owners()) == {"a.2": 4, "b.1": 4}

    def test_shards_of_the_healthy_keep_owner_and_epoch(self) -> None:
        c = Cluster(evidence="all").placed("a", "b", "c")
        before = list(zip(c.owners(), c.epochs(), strict=True))
        c.lose("b")
        c.settle()
        after = list(zip(c.owners(), c.epochs(), strict=True))
        for old, new in zip(before, after, strict=True):
            if old[0] == "b.1":
                assert new[0] != "b.1"
                assert new[1] > old[1]
            else:
                assert new == old

    def test_one_write_moves_all_and_is_guarded_by_the_lost_record(self) -> None:
        c = Cluster(evidence="all", shards=2 * CHUNK, types=("t", "u")).placed("a", "b")
        created = c.workers["a"].create_revision
        c.lose("a")
        assert c.settle() == 1
        assert len(c.persists[-1].tables) == 4
        assert c.persists[-1].gone == (("a", created),)

    def test_guards_never_make_a_transaction_too_big(self) -> None:
        c = Cluster(evidence="all", shards=120 * CHUNK)
        for n in range(20):
            c.join(f"w{n}")
        c.wait(SECOND)
        for n in range(19):
            c.lose(f"w{n}")
        c.settle()
        last = c.persists[-1]
        assert len(last.tables) + len(last.gone) + 1 <= 128

    def test_a_silent_owner_that_may_be_proved_dead_promises_no_time(self) -> None:
        c = Cluster().placed("a", "b", durable=True)
        shard = c.owners().index("a.1")
        c.change(c.workers["a"], silent_age_ns=SECOND)
        assert c.core.movable_at_ns("t", shard, c.now_ns) is None
        c.lose("a")
        movable_at_ns = c.core.movable_at_ns("t", shard, c.now_ns)
        assert movable_at_ns is not None
        assert movable_at_ns <= c.now_ns

    def test_a_silent_volatile_owner_is_expected_to_end_with_its_lease(self) -> None:
        c = Cluster().placed("a", "b")
        shard = c.owners().index("a.1")
        assert c.core.movable_at_ns("t", shard, c.now_ns) is None
        c.change(c.workers["a"], silent_age_ns=SECOND)
        assert c.core.movable_at_ns("t", shard, c.now_ns) == c.now_ns + TTL - SECOND

    def test_with_nobody_left_nothing_is_written_and_no_time_is_promised(self) -> None:
        c = Cluster(evidence="all").placed("a")
        c.lose("a")
        assert c.decide() == Decision()
        assert c.core.movable_at_ns("t", 0, c.now_ns) is None
        assert c.core.without_workers() == {"t"}
        assert c.core.unreachable() == {"a.1"}

    def test_after_all_were_lost_placement_is_from_nothing_again(self) -> None:
        c = Cluster(evidence="all", min_workers=2).placed("a", "b")
        c.lose("a")
        c.lose("b")
        c.join("a", life=2)
        c.wait(SECOND)
        assert set(c.owners()) == {"a.1", "b.1"}
        c.join("b", life=2)
        c.settle()
        assert Counter(c.owners()) == {"a.2": 4, "b.2": 4}

    def test_min_workers_stops_nothing_while_a_shard_has_a_living_owner(self) -> None:
        c = Cluster(evidence="all", min_workers=2).placed("a", "b")
        c.lose("a")
        c.settle()
        assert set(c.owners()) == {"b.1"}

    def test_nor_when_the_only_owner_is_lost_and_another_worker_was_up_by_then(self) -> None:
        c = Cluster(evidence="all", min_workers=2).placed("a", "b")
        c.lose("b")
        c.settle()
        c.join("c")
        c.wait(SECOND)
        assert set(c.owners()) == {"a.1"}
        c.lose("a")
        assert c.core.without_workers() == frozenset()
        c.settle()
        assert set(c.owners()) == {"c.1"}

    def test_one_that_is_up_only_after_the_last_owner_was_lost_waits_for_min_workers(self) -> None:
        c = Cluster(min_workers=2, types=("t",)).placed("a", "b", durable=True)
        joining = c.join("c", status=Status.JOINING)
        c.wait(SECOND)
        c.change(c.workers["a"], status=Status.LEFT)
        c.lose("b")
        c.wait(SECOND)
        c.change(joining, status=Status.UP)
        c.wait(SECOND)
        c.synced()
        c.wait(60 * SECOND)
        assert set(c.owners()) == {"a.1", "b.1"}
        assert c.core.without_workers() == {"t"}
        c.join("b", life=2)
        c.settle()
        assert Counter(c.owners()) == {"b.2": 4, "c.1": 4}


class TestLeadership:
    def test_only_the_leader_decides(self) -> None:
        c = Cluster(leads=False)
        c.join("a")
        c.wait(SECOND)
        assert c.persists == []
        c.apply(Elected())
        c.settle()
        assert None not in c.owners()
        c.lose("a")
        c.join("b")
        c.apply(Deposed())
        c.wait(2 * TTL)
        assert set(c.owners()) == {"a.1"}

    def test_a_standby_knows_what_the_leader_knew(self) -> None:
        c = Cluster(leads=False)
        leader = Cluster()
        for one in (c, leader):
            one.join("a")
            one.join("b")
        leader.wait(SECOND)
        c.now_ns = leader.now_ns
        for table in leader.tables.values():
            c.tables[table.type, table.chunk] = table
            c.apply(TableSeen(table))
        c.lose("a")
        c.wait(TTL - SECOND)
        c.apply(Elected())
        c.wait(SECOND - 1)
        assert "a.1" in c.owners(), "a TTL from when this seed saw the deletion"
        c.wait(1)
        assert set(c.owners()) == {"b.1"}

    def test_an_owner_that_was_never_seen_is_waited_for_from_when_it_is_missed(self) -> None:
        old = Cluster().placed("a", "b")
        c = Cluster(leads=False)
        c.tables = dict(old.tables)
        c.revision = old.revision
        c.apply(Synced((old.workers["b"],), tuple(old.tables.values()), old.contracts))
        c.apply(Elected())
        c.wait(TTL - 1)
        assert "a.1" in c.owners()
        c.wait(1)
        assert set(c.owners()) == {"b.1"}
        assert c.persists[-1].gone == ()

    def test_after_a_gap_a_mark_may_have_been_cleared_unseen(self) -> None:
        c = Cluster().placed("a", "b")
        c.change(c.workers["a"], silent_age_ns=TTL - 1)
        c.apply(Synced((c.workers["b"],), tuple(c.tables.values()), c.contracts))
        c.wait(TTL - 1)
        assert "a.1" in c.owners()
        c.wait(1)
        assert set(c.owners()) == {"b.1"}

    def test_a_gap_forgets_nothing_that_is_for_ever(self) -> None:
        c = Cluster().placed("a", "b")
        c.change(c.workers["a"], status=Status.LEFT)
        c.apply(Synced((c.workers["b"],), tuple(c.tables.values()), c.contracts))
        c.settle()
        assert set(c.owners()) == {"b.1"}


class TestWriting:
    def test_one_write_is_under_way_at_a_time(self) -> None:
        c = Cluster(evidence="all").placed("a", "b", "c")
        c.lose("a")
        assert c.decide().persist is not None
        c.lose("b")
        assert c.decide() == Decision()

    def test_nothing_is_decided_until_the_write_has_come_back(self) -> None:
        c = Cluster(evidence="all").placed("a", "b", "c")
        c.lose("a")
        persist = c.decide().persist
        assert persist is not None
        c.apply(Persisted(c.revision + 1))
        c.lose("b")
        decision = c.decide()
        assert decision.persist is None
        assert decision.wake_at_ns is not None
        c.revision += 1
        for table in persist.tables:
            c.tables[table.type, table.chunk] = replace(table, revision=c.revision)
            c.apply(TableSeen(c.tables[table.type, table.chunk]))
        c.settle()
        assert set(c.owners()) == {"c.1"}

    def test_a_watch_that_stands_still_stops_decisions_for_a_while_only(self) -> None:
        c = Cluster(evidence="all").placed("a", "b")
        c.lose("a")
        assert c.decide().persist is not None
        c.apply(Persisted(99))
        wake_at_ns = c.decide().wake_at_ns
        assert wake_at_ns is not None
        c.now_ns = wake_at_ns
        assert c.decide().persist is not None

    def test_a_failed_write_is_repeated_after_growing_pauses_or_a_change(self) -> None:
        c = Cluster(evidence="all").placed("a", "b")
        c.lose("a")
        pauses: list[int] = []
        for _ in range(8):
            assert c.decide().persist is not None
            c.apply(PersistFailed())
            wake_at_ns = c.decide().wake_at_ns
            assert wake_at_ns is not None
            pauses.append((wake_at_ns - c.now_ns) // MS)
            c.now_ns = wake_at_ns
        assert pauses == [100, 200, 400, 800, 1600, 3200, 3200, 3200]
        assert c.decide().persist is not None
        c.apply(PersistFailed())
        c.join("c")
        assert c.decide().persist is not None

    def test_an_answer_after_the_deposition_means_nothing(self) -> None:
        c = Cluster(evidence="all").placed("a", "b")
        c.lose("a")
        assert c.decide().persist is not None
        c.apply(Deposed())
        c.apply(Persisted(77))
        c.apply(Elected())
        assert c.decide().persist is not None

    def test_handoffs_of_shards_that_stay_are_kept(self) -> None:
        c = Cluster(evidence="all").placed("a", "b")
        to = Handoff(Incarnation("b.1"), 10_000)
        kept, dropped = (c.owners().index(owner) for owner in ("b.1", "a.1"))
        table = replace(
            c.tables["t", 0],
            generation=Generation(c.tables["t", 0].generation + 1),
            handoffs={kept: to, dropped: to},
        )
        c.tables["t", 0] = table
        c.apply(TableSeen(table))
        c.lose("a")
        c.settle()
        assert c.tables["t", 0].handoffs == {kept: to}


class TestEpochs:
    def test_a_generation_is_the_wall_clock_or_one_above_the_last(self) -> None:
        c = Cluster(evidence="all").placed("a", "b")
        first = c.tables["t", 0].generation
        assert first == WALL_MS + c.now_ns // MS
        c.lose("a")
        decision = c.core.decide(c.now_ns, 5)
        assert decision.persist is not None
        assert decision.persist.tables[0].generation == first + 1

    def test_chunks_of_a_type_share_their_generations(self) -> None:
        c = Cluster(evidence="all", shards=2 * CHUNK).placed("a", "b")
        ahead = replace(c.tables["t", 1], generation=Generation(1 << 50))
        c.tables["t", 1] = ahead
        c.apply(TableSeen(ahead))
        c.lose("a")
        c.settle()
        assert {table.generation for table in c.tables.values()} == {(1 << 50) + 1}

    def test_a_deleted_table_comes_back_above_its_old_generation(self) -> None:
        c = Cluster().placed("a")
        ahead = replace(c.tables["t", 0], generation=Generation(1 << 50))
        c.apply(TableSeen(ahead))
        c.tables.clear()
        c.apply(TableGone("t", 0))
        c.settle()
        assert c.tables["t", 0].generation > 1 << 50

    def test_a_reported_epoch_is_overtaken_for_the_same_owner(self) -> None:
        c = Cluster().placed("a", "b")
        before = list(zip(c.owners(), c.epochs(), strict=True))
        seen = Epoch(before[3][1] + 1_000_000)
        c.apply(EpochReported("t", 3, seen))
        assert c.settle() == 1
        after = list(zip(c.owners(), c.epochs(), strict=True))
        assert after[3] == (before[3][0], seen + 1)
        assert after[:3] + after[4:] == before[:3] + before[4:]
        c.apply(EpochReported("t", 3, seen))
        assert c.settle() == 0

    @pytest.mark.parametrize(
        ("type_", "shard", "epoch"), [("x", 0, 1 << 50), ("t", 8, 1 << 50), ("t", 0, 1 << 63)]
    )
    def test_a_report_that_makes_no_sense_is_ignored(
        self, type_: str, shard: int, epoch: int
    ) -> None:
        c = Cluster().placed("a")
        c.apply(EpochReported(type_, shard, Epoch(epoch)))
        assert c.settle() == 0


def test_a_large_cluster_is_decided_in_one_step() -> None:
    c = Cluster(shards=4096, types=tuple(f"t{n}" for n in range(5)))
    for n in range(200):
        c.join(f"w{n:03}")
    c.wait(SECOND)
    for n in range(5):
        spread = Counter(c.owners(f"t{n}")).values()
        assert max(spread) - min(spread) <= 1
    total = Counter(owner for n in range(5) for owner in c.owners(f"t{n}"))
    assert max(total.values()) - min(total.values()) <= 1


def test_a_contract_of_another_size_than_its_table_harms_nothing() -> None:
    c = Cluster().placed("a")
    c.apply(ContractSeen("t", 16, "sharding"))
    assert c.settle() == 0


def test_a_machine_that_is_not_synced_decides_nothing() -> None:
    c = Cluster()
    fresh = Coordinator(c.settings)
    fresh.apply(Elected(), c.now_ns)
    assert fresh.decide(c.now_ns, 1) == Decision()
