"""Where shards go while versions are mixed: each of them moves once in a whole update."""

from __future__ import annotations

from collections import Counter

import pytest

from seedbed_seed.core.versions import RETIRING_NS
from tests.unit.seed.cluster import SECOND, TTL, Cluster

SHARDS = 60


class Deployment:
    """Pods of a cluster, replaced as Kubernetes does; notes how often each shard moves."""

    def __init__(self, *, revisions: bool = False) -> None:
        self.c = Cluster(shards=SHARDS)
        self.revisions = revisions
        self.count = 0
        self.moves: Counter[int] = Counter()

    def start(self, version: str) -> str:
        self.count += 1
        name = f"p{self.count:02}"
        self.c.join(name, version=version, revision=version[1:] if self.revisions else "")
        self.c.wait(SECOND)
        return name

    def begin(self, count: int) -> list[str]:
        for _ in range(count):
            self.count += 1
            self.c.join(f"p{self.count:02}", version="v1", revision="1" if self.revisions else "")
        self.c.wait(SECOND)
        return list(self.c.workers)

    def stop(self, *names: str) -> None:
        for name in names:
            self.c.drain(name)
        before = self.c.owners()
        self.c.hand_over()
        after = self.c.owners()
        self.moves.update(n for n in range(SHARDS) if before[n] != after[n])
        for name in names:
            assert f"{name}.1" not in after
            self.c.lose(name)
        self.c.wait(SECOND)

    def versions(self) -> set[str]:
        versions = {str(w.incarnation): w.app_version for w in self.c.workers.values()}
        return {versions[owner] for owner in self.c.owners() if owner is not None}

    def most_moves(self) -> int:
        found, self.moves = max(self.moves.values(), default=0), Counter()
        return found


@pytest.fixture(params=[False, True], ids=["by drains", "by revisions"])
def pods(request: pytest.FixtureRequest) -> Deployment:
    return Deployment(revisions=request.param)


def test_an_update_with_a_surge_moves_each_shard_once(pods: Deployment) -> None:
    for old in pods.begin(4):
        pods.start("v2")
        pods.stop(old)
    assert pods.versions() == {"v2"}
    assert set(pods.moves.values()) == {1}
    assert len(pods.moves) == SHARDS


def test_an_undo_in_the_middle_is_an_update_of_its_own() -> None:
    pods = Deployment()
    first, second, *_ = pods.begin(4)
    new = [pods.start("v2")]
    pods.stop(first)
    new.append(pods.start("v2"))
    pods.stop(second)
    assert pods.most_moves() == 1
    for one in new:
        pods.start("v1")
        pods.stop(one)
    assert pods.versions() == {"v1"}
    assert pods.most_moves() == 1


def test_an_autoscaler_that_doubles_in_the_middle_costs_no_second_move(pods: Deployment) -> None:
    first, *others = pods.begin(4)
    pods.start("v2")
    pods.stop(first)
    more = [pods.start("v1"), pods.start("v1")]
    for _ in range(2):
        pods.start("v2")
    for old in (*others, *more):
        pods.start("v2")
        pods.stop(old)
    assert pods.versions() == {"v2"}
    assert pods.most_moves() == 1


def test_without_surge_only_what_drained_before_the_first_new_pod_moves_twice() -> None:
    pods = Deployment()
    first, *others = pods.begin(4)
    owned = [n for n, owner in enumerate(pods.c.owners()) if owner == f"{first}.1"]
    pods.stop(first)
    pods.start("v2")
    for old in others:
        pods.stop(old)
        pods.start("v2")
    assert pods.versions() == {"v2"}
    twice = {shard for shard, count in pods.moves.items() if count > 1}
    assert twice == set(owned)
    assert max(pods.moves.values()) == 2


@pytest.mark.parametrize(
    ("later_ns", "versions"), [(RETIRING_NS - 60 * SECOND, {"v2"}), (RETIRING_NS, {"v1", "v2"})]
)
def test_a_version_is_being_retired_for_ten_minutes(later_ns: int, versions: set[str]) -> None:
    pods = Deployment()
    first, second, third = pods.begin(3)
    new = pods.start("v2")
    pods.stop(first)
    mine = [n for n, owner in enumerate(pods.c.owners()) if owner == f"{second}.1"]
    pods.c.now_ns += later_ns
    pods.c.lose(second)
    pods.c.wait(TTL)
    owners = {f"{third}.1": "v1", f"{new}.1": "v2"}
    homes = {owners[owner] for n in mine if (owner := pods.c.owners()[n])}
    assert homes == versions


def test_a_crash_in_an_update_goes_to_the_version_that_stays_if_there_is_one() -> None:
    pods = Deployment()
    first, second, _ = pods.begin(3)
    new = pods.start("v2")
    pods.stop(first)
    pods.c.lose(second)
    pods.c.wait(TTL)
    counts = Counter(pods.c.owners())
    assert counts[f"{new}.1"] == SHARDS * 2 // 3
    pods.c.lose(new)
    pods.c.wait(TTL)
    assert pods.versions() == {"v1"}, "no shard is left without a home"


def test_revisions_order_versions_only_if_every_member_sets_one() -> None:
    c = Cluster().placed("a")
    c.join("b", version="v3", revision="3")
    c.join("c", version="v2", revision="2")
    c.drain("a")
    c.settle()
    assert set(c.handoffs().values()) == {"b.1", "c.1"}
    c = Cluster()
    c.join("a", version="v1", revision="9")
    c.wait(SECOND)
    c.join("b", version="v3", revision="10")
    c.join("c", version="v2", revision="2")
    c.drain("a")
    c.settle()
    assert set(c.handoffs().values()) == {"b.1"}
