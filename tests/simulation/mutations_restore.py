"""What is broken on purpose in what follows a restore of the store."""

from __future__ import annotations

from seedbed.ids import Generation
from seedbed.routing import Owner, ShardTable
from seedbed_seed.core import coordinator as core
from seedbed_seed.core import decisions
from seedbed_seed.core.aftermath import Aftermath, Renewal
from seedbed_seed.core.draft import TableKey
from tests.simulation.seed import SimSeed


class _BrokenAftermath(core.Coordinator):
    aftermath_class: type[Aftermath] = Aftermath

    def __init__(self, settings: decisions.CoordinatorSettings) -> None:
        super().__init__(settings)
        self._reading.aftermath = self.aftermath_class(waits=True)


class _KeepsOwners(Aftermath):
    """Every table is written again as it is; one that is gone is placed at once."""

    def kept(self, before: Owner | None, now: Owner | None) -> bool:
        return True

    def lost(
        self,
        key: TableKey,
        size: int,
        floor: Generation,
        *,
        before: ShardTable | None,
        now: ShardTable | None,
    ) -> None:
        super().lost(key, size, floor, before=before, now=now)
        renewal = self._renewals[key]
        kept = {
            place
            for place in renewal.vacated
            if self.kept(_owner(before, place), _owner(now, place))
        }
        self._renewals[key] = Renewal(floor, renewal.vacated - kept)


def _owner(table: ShardTable | None, place: int) -> Owner | None:
    return table.owner_of(place) if table is not None and place < len(table.owner) else None


class _TrustsItsMemory(_KeepsOwners):
    """Owners that are what this seed knew before the restore stay what they are."""

    def kept(self, before: Owner | None, now: Owner | None) -> bool:
        return before is not None and before == now


class _Hasty(Aftermath):
    """Gives a shard without an owner to somebody at once."""

    def free_at_ns(self, key: TableKey, ttl_ns: int) -> int:
        return 0


class _KeepingOwners(_BrokenAftermath):
    aftermath_class = _KeepsOwners


class _TrustingItsMemory(_BrokenAftermath):
    aftermath_class = _TrustsItsMemory


class _BeingHasty(_BrokenAftermath):
    aftermath_class = _Hasty


class RecommitAtOnce(SimSeed):
    coordinator_class = _KeepingOwners


class RecommitWhatWasKnown(SimSeed):
    coordinator_class = _TrustingItsMemory


class NoWaitAfterRestore(SimSeed):
    coordinator_class = _BeingHasty
