"""What is broken on purpose in hand-offs, at the coordinator's end or at the worker's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from seedbed.ids import Incarnation
from seedbed.routing import Release, ShardTable
from seedbed_seed.core import coordinator as core
from seedbed_seed.core import decisions
from seedbed_seed.core.handoffs import Handoffs, Underway
from seedbed_seed.core.membership import Worker
from seedbed_seed.core.roster import Roster
from seedbed_seed.core.versions import Versions
from seedbed_worker.core.region import Admitted, Region, View
from tests.simulation.calls import TTL_NS
from tests.simulation.seed import SimSeed
from tests.simulation.turns import Turn, Turns
from tests.simulation.worker import SimWorker

# The coordinator.


class _NoTtlAfterLimit(Handoffs):
    """A hand-off may end at its limit, though its owner may not have seen it for a TTL."""

    def __iter__(self) -> Iterator[Underway]:
        for one in super().__iter__():
            yield one._replace(limit_ns=one.limit_ns - TTL_NS)


class _HastyCoordinator(core.Coordinator):
    def __init__(self, settings: decisions.CoordinatorSettings) -> None:
        super().__init__(settings)
        self._reading.handoffs = _NoTtlAfterLimit()


class NoTtlAfterLimit(SimSeed):
    coordinator_class = _HastyCoordinator


class _AnyEpoch(frozenset[Release]):
    """Holds a release if it has one of the same shard."""

    def __contains__(self, one: object) -> bool:
        return isinstance(one, Release) and any(known[:2] == one[:2] for known in self)


class _TrustingRoster(Roster):
    def released(self, incarnation: Incarnation) -> frozenset[Release]:
        return _AnyEpoch(super().released(incarnation))


class _TrustingCoordinator(core.Coordinator):
    def __init__(self, settings: decisions.CoordinatorSettings) -> None:
        super().__init__(settings)
        self._reading.roster = _TrustingRoster(settings.ttl_ns)


class OldReleaseCounts(SimSeed):
    coordinator_class = _TrustingCoordinator


class _AnyVersion(Versions):
    """Gives to members of a version that is being retired as to any other."""

    def best(
        self,
        type_: str,
        candidates: Sequence[Worker],
        hosts: Sequence[Worker],
        draining: Sequence[Worker],
        now_ns: int,
    ) -> list[Worker]:
        return list(candidates)


class _CoordinatorOfAnyVersion(core.Coordinator):
    def __init__(self, settings: decisions.CoordinatorSettings) -> None:
        super().__init__(settings)
        self._reading.versions = _AnyVersion()


class AnyVersion(SimSeed):
    coordinator_class = _CoordinatorOfAnyVersion


# The worker.


class _NoLimit(Turns):
    """What has begun goes on as long as it likes."""

    def late(self, type_: str, shard: int) -> bool:
        return False


class NoLimit(SimWorker):
    turns_class = _NoLimit


class _UnmarkedRegion(Region):
    """Tells of releases, and does not keep to them."""

    def _mine(self, type_: str, shard: int) -> Admitted | None:
        mine = self._row_of(type_, shard)
        return None if mine is None or mine.incarnation == self.fenced else mine


class _ReleasesAtOnce(Turns):
    """Does not wait for its turns, and lets them answer."""

    def may_release(self, turns: list[Turn], *, late: bool) -> bool:
        return True

    def cancel(self, turns: list[Turn]) -> None:
        pass


class ReleasesAtOnce(SimWorker):
    region_class = _UnmarkedRegion
    turns_class = _ReleasesAtOnce


class _BeginsAnew(Region):
    """Takes every newer table that shows a hand-off for the first one."""

    def observe(self, tables: Iterable[ShardTable], now_ns: int) -> list[ShardTable]:
        view, tables = self.view, list(tables)
        news = {
            table.type
            for table in tables
            if table.generation > self.generation(table.type, table.first_shard)
        }
        leaving = {place: one for place, one in view.leaving.items() if place[0] not in news}
        self.view = View(view.incarnation, view.tables, view.mine, leaving)
        return super().observe(tables, now_ns)


class LimitBeginsAnew(SimWorker):
    region_class = _BeginsAnew


class _TakesBack(Region):
    """What it has released is its own again when a newer table still says so."""

    def observe(self, tables: Iterable[ShardTable], now_ns: int) -> list[ShardTable]:
        changed = super().observe(tables, now_ns)
        types = {table.type for table in changed}
        back = {place for place in self._released if place[0] in types}
        view = self.view
        leaving = {place: one for place, one in view.leaving.items() if place not in back}
        self.view = View(view.incarnation, view.tables, view.mine, leaving)
        self._released = {p: epoch for p, epoch in self._released.items() if p not in back}
        return changed


class TakesBackReleases(SimWorker):
    region_class = _TakesBack
