"""Whatever happens to members, watches and writes: what the coordinator may never do."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from seedbed.ids import Epoch, Incarnation, NodeId
from seedbed.routing import Release
from seedbed_seed.core.coordinator import Coordinator
from seedbed_seed.core.decisions import (
    Deposed,
    Elected,
    EpochReported,
    Evidence,
    MovesOrdered,
    Persist,
    Persisted,
    PersistFailed,
    ShardMove,
    TableSeen,
)
from seedbed_seed.core.membership import Status, Worker
from tests.unit.seed.cluster import SECOND, TTL, Cluster, nodes
from tests.unit.seed.placement_checks import SHARDS, Checks, Held

NAMES = st.sampled_from(["a", "b", "c", "d"])
MOMENTS = st.sampled_from([1, SECOND // 4, SECOND // 2, SECOND, TTL // 2, TTL])


class Placement(Checks, RuleBasedStateMachine):
    """Two types, one volatile and one durable by its owners' word. What the coordinator cannot see:
    when a worker last sent a heartbeat that was renewed (`renewed_ns`), and when it first heard
    that a shard is to be handed off (`told_ns`)."""

    def __init__(self) -> None:
        super().__init__()
        self.lives: Counter[str] = Counter()
        self.renewed_ns: dict[Incarnation, int] = {}
        self.left: set[Incarnation] = set()
        self.told_ns: dict[Held, int] = {}
        self.released: set[Held] = set()
        self.reported: dict[tuple[str, int], int] = {}
        self.under_way: Persist | None = None

    @initialize(
        min_workers=st.integers(1, 2),
        evidence=st.sampled_from(["durable", "durable", "all", "off"]),
        names=st.sets(NAMES, max_size=3),
    )
    def begin(self, min_workers: int, evidence: Evidence, names: set[str]) -> None:
        self.evidence = evidence
        self.c = Cluster(
            shards=SHARDS, types=("volatile", "durable"), min_workers=min_workers, evidence=evidence
        )
        for name in sorted(names):
            self.join(name, proved=False)
            self.renew(name)
        self.wait(SECOND)
        self.settle()

    # Members.

    @rule(name=NAMES, proved=st.booleans())
    def join(self, name: str, proved: bool) -> None:
        """A first start, or a restart in place that the old one has not survived."""
        old = self.c.workers.get(name)
        if old is not None and proved:
            self.left.add(old.incarnation)
        elif old is not None:
            self.c.lose(name)
        self.lives[name] += 1
        worker = self.c.join(
            name,
            life=self.lives[name],
            status=Status.JOINING,
            replaced=old.incarnation if old is not None and proved else "",
        )
        self.c.change(replace(worker, types={"volatile": False, "durable": True}))
        self.renewed_ns[worker.incarnation] = self.c.now_ns

    @rule(name=NAMES)
    def renew(self, name: str) -> None:
        """RENEWED: only while the record has no mark; the first one sets UP."""
        worker = self.c.workers.get(name)
        if worker is None or worker.silent_age_ns is not None or not self.holds(worker):
            return
        self.hear(worker)
        if worker.status is Status.JOINING:
            self.c.change(worker, status=Status.UP)

    @rule(name=NAMES)
    def mark(self, name: str) -> None:
        worker = self.c.workers.get(name)
        if worker is not None and worker.silent_age_ns is None:
            age_ns = self.c.now_ns - self.renewed_ns[worker.incarnation]
            self.c.change(worker, silent_age_ns=age_ns)

    @rule(name=NAMES)
    def resume(self, name: str) -> None:
        """A Hello clears the mark, and counts as a sign of life."""
        worker = self.c.workers.get(name)
        if worker is not None and self.holds(worker):
            stream_id = str(int(worker.stream_id) + 1)
            self.hear(worker)
            self.c.change(worker, stream_id=stream_id, silent_age_ns=None)

    @rule(name=NAMES)
    def drain(self, name: str) -> None:
        worker = self.c.workers.get(name)
        if worker is not None and worker.status is Status.UP:
            self.c.change(worker, status=Status.DRAINING)

    def holds(self, worker: Worker) -> bool:
        """It has its lease: past its time it has fenced itself for ever, whatever etcd says."""
        until_ns = self.renewed_ns[worker.incarnation] + TTL
        return worker.status is not Status.LEFT and self.c.now_ns < until_ns

    def hear(self, worker: Worker) -> None:
        """It holds a valid lease from now on, and knows all tables that were written before."""
        self.renewed_ns[worker.incarnation] = self.c.now_ns
        for held in self.handed_off(worker):
            self.told_ns.setdefault(held, self.c.now_ns)

    def handed_off(self, worker: Worker) -> list[Held]:
        return [
            (worker.incarnation, Release(table.type, shard, table.epoch[shard]))
            for table in self.c.tables.values()
            for shard in sorted(table.handoffs)
            if shard in table.shards_of(worker.incarnation)
        ]

    @rule(name=NAMES, count=st.integers(1, 2 * SHARDS))
    def release(self, name: str, count: int) -> None:
        """It gives up some of what it has been told to hand off; its record says so."""
        worker = self.c.workers.get(name)
        if worker is not None and worker.serving:
            told = [held for held in self.handed_off(worker) if held in self.told_ns][:count]
            self.released.update(told)
            words = frozenset(word for _, word in told)
            self.c.change(worker, released=worker.released | words)

    @rule(
        cordoned=st.sets(NAMES, max_size=2),
        draining=st.sets(NAMES, max_size=2),
        pins=st.dictionaries(st.integers(0, SHARDS - 1), NAMES, max_size=1),
        frozen=st.booleans(),
    )
    def order(
        self, cordoned: set[str], draining: set[str], pins: dict[int, str], frozen: bool
    ) -> None:
        self.c.order(
            cordoned=nodes(*cordoned),
            draining=nodes(*draining),
            pins={("volatile", shard): NodeId(name) for shard, name in pins.items()},
            frozen=frozen,
        )

    @rule(shard=st.integers(0, SHARDS - 1), name=NAMES)
    def move(self, shard: int, name: str) -> None:
        self.c.apply(MovesOrdered((ShardMove("durable", shard, NodeId(name)),)))

    @rule(name=NAMES)
    def leave(self, name: str) -> None:
        worker = self.c.workers.get(name)
        if worker is not None:
            self.left.add(worker.incarnation)
            self.c.change(worker, status=Status.LEFT)

    @rule(name=NAMES)
    def lose(self, name: str) -> None:
        """The record goes, early or late: nobody can tell."""
        if name in self.c.workers:
            self.c.lose(name)

    # Time, watch and leadership.

    @rule(duration_ns=MOMENTS)
    def wait(self, duration_ns: int) -> None:
        self.c.now_ns += duration_ns

    @rule()
    def gap(self) -> None:
        self.c.synced()

    @rule(name=NAMES, resumed=st.booleans())
    def miss(self, name: str, resumed: bool) -> None:
        """A loss (and before it a resume, which clears a mark) while the watch has a gap."""
        worker = self.c.workers.pop(name, None)
        if worker is not None and resumed and self.holds(worker):
            self.hear(worker)
        self.gap()

    @rule()
    def replace_leader(self) -> None:
        """A seed that has just started leads."""
        self.under_way = None
        self.c.core = Coordinator(self.c.settings)
        self.gap()
        self.c.apply(Elected())

    @rule()
    def change_leader(self) -> None:
        self.under_way = None
        self.c.apply(Deposed())
        self.c.apply(Elected())

    @precondition(lambda self: self.c.tables)
    @rule(shard=st.integers(0, SHARDS - 1), ahead=st.integers(1, 10_000))
    def report(self, shard: int, ahead: int) -> None:
        epoch = self.c.epochs("volatile")[shard] + ahead if self.c.epochs("volatile") else ahead
        self.reported["volatile", shard] = epoch
        self.c.apply(EpochReported("volatile", shard, Epoch(epoch)))

    # Decisions.

    @rule()
    def decide(self) -> None:
        decision = self.c.decide()
        if self.under_way is not None:
            assert decision.persist is None, "a second Persist while one is under way"
        elif decision.persist is not None:
            self.check(decision.persist)
            self.under_way = decision.persist
        assert decision.wake_at_ns is None or decision.wake_at_ns > self.c.now_ns

    @precondition(lambda self: self.under_way is None)
    @rule(duration_ns=MOMENTS)
    def settle(self, duration_ns: int = 0) -> None:
        """Time passes, and all that can be decided is."""
        self.wait(duration_ns)
        self.decide()
        for _ in range(8):
            if self.under_way is not None:
                self.commit(watch_first=False)
                self.decide()
        assert self.under_way is None, "a hot loop of writes"

    @precondition(lambda self: self.under_way is not None)
    @rule()
    def fail(self) -> None:
        self.under_way = None
        self.c.apply(PersistFailed())

    @precondition(lambda self: self.under_way is not None)
    @rule(watch_first=st.booleans())
    def commit(self, watch_first: bool) -> None:
        persist, self.under_way = self.under_way, None
        assert persist is not None
        self.c.revision += 1
        if not watch_first:
            self.c.apply(Persisted(self.c.revision))
        for table in persist.tables:
            stored = replace(table, revision=self.c.revision)
            self.c.tables[table.type, table.chunk] = stored
            self.c.apply(TableSeen(stored))
            for key, epoch in list(self.reported.items()):
                if key[0] == table.type and table.epoch[key[1]] > epoch:
                    del self.reported[key]
        if watch_first:
            self.c.apply(Persisted(self.c.revision))

    @invariant()
    def silent_and_lost_owners_are_unreachable(self) -> None:
        if not hasattr(self, "c"):
            return
        unreachable = self.c.core.unreachable()
        for table in self.c.tables.values():
            for owner in table.owners:
                worker = self.c.workers.get(owner.node_id)
                silent = worker is not None and worker.silent_age_ns is not None
                assert (owner.incarnation in unreachable) == (not self.serves(owner) or silent)

    def teardown(self) -> None:
        """Once nothing happens any more, every shard gets an owner that serves and stays."""
        if not hasattr(self, "c"):
            return
        self.c.order(cordoned=nodes(), draining=nodes(), pins={}, frozen=True)
        for name in ("a", "b"):
            known = self.c.workers.get(name)
            if known is None or known.status is not Status.UP or not self.holds(known):
                self.join(name, proved=False)
            self.resume(name)
            self.renew(name)
        if self.under_way is not None:
            self.fail()
        for _ in range(8):
            self.c.now_ns += TTL // 2
            for name in self.c.workers:
                self.renew(name)
            self.settle()
        for table in self.c.tables.values():
            for shard in range(SHARDS):
                owner = table.owner_of(shard)
                assert owner is not None
                assert self.serves(owner), f"{table.type}/{shard} is left with {owner.incarnation}"
                assert not self.c.workers[owner.node_id].draining
            assert not table.handoffs
        assert len(self.c.tables) == 2


Placement.TestCase.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, report_multiple_bugs=False
)
TestPlacement = Placement.TestCase
