"""The design broken on purpose, one rule at a time: the simulation must find each of these.

Nothing of this is a switch in the product: each break is a subclass or a shell that skips a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation import plans_losses as losses
from tests.simulation import plans_movement as movement
from tests.simulation.fault import Plan
from tests.simulation.kernel import Violation
from tests.simulation.mutations_losses import (
    AckBeforeRenewal,
    AckByLeftStream,
    AckOfMarked,
    AckWithoutTables,
    LateRenewalRevives,
    MarkByLeftStream,
    NoCheckBeforeReply,
    NoLeaderGuard,
    NoSelfFence,
    OwnedByNode,
)
from tests.simulation.mutations_movement import (
    AnyVersion,
    LimitBeginsAnew,
    NoLimit,
    NoTtlAfterLimit,
    OldReleaseCounts,
    ReleasesAtOnce,
    TakesBackReleases,
)
from tests.simulation.mutations_restore import (
    NoWaitAfterRestore,
    RecommitAtOnce,
    RecommitWhatWasKnown,
)
from tests.simulation.seed import SimSeed
from tests.simulation.worker import SimWorker
from tests.simulation.world import World, play

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Mutation:
    """Which parts are broken, and a plan under which that shows soon."""

    plan: Plan
    seed_class: type[SimSeed] = SimSeed
    worker_class: type[SimWorker] = SimWorker
    guarded: bool = True
    """Off: the answers to clients alone shall show it."""

    def play(self, seed: int, *, traced: bool = False) -> tuple[World, Violation | None]:
        return play(
            seed,
            self.plan,
            seed_class=self.seed_class,
            worker_class=self.worker_class,
            guarded=self.guarded,
            traced=traced,
        )


MUTATIONS: dict[str, Mutation] = {
    "no self-fence": Mutation(losses.cut_off, worker_class=NoSelfFence),
    "no leader guard": Mutation(losses.frozen_leader, seed_class=NoLeaderGuard),
    "ack before renewal": Mutation(losses.deaf_store, seed_class=AckBeforeRenewal),
    "late renewal revives": Mutation(losses.slow_acks, worker_class=LateRenewalRevives),
    "no check before the reply": Mutation(losses.frozen_turn, worker_class=NoCheckBeforeReply),
    "ownership by node": Mutation(losses.quick_restarts, worker_class=OwnedByNode),
    "ack without tables": Mutation(losses.moves_unseen, seed_class=AckWithoutTables),
    "ack of a marked member": Mutation(losses.heard_again, seed_class=AckOfMarked),
    "mark by a stream left": Mutation(losses.left_stream, seed_class=MarkByLeftStream),
    "ack by a stream left": Mutation(losses.half_resumed, seed_class=AckByLeftStream),
    "recommit at once after a restore": Mutation(losses.gone_back, seed_class=RecommitAtOnce),
    "recommit of what was known": Mutation(
        losses.gone_back_unseen, seed_class=RecommitWhatWasKnown
    ),
    "no wait after a restore": Mutation(losses.gone_back, seed_class=NoWaitAfterRestore),
    "no wait after a loss": Mutation(losses.emptied, seed_class=NoWaitAfterRestore),
    "hand-off times out without a TTL": Mutation(
        movement.unheard_handoff, seed_class=NoTtlAfterLimit, guarded=False
    ),
    "release of an older epoch counts": Mutation(
        movement.to_and_fro, seed_class=OldReleaseCounts, guarded=False
    ),
    "versions do not matter": Mutation(movement.update, seed_class=AnyVersion),
    "no limit of a hand-off": Mutation(movement.unheard_end, worker_class=NoLimit),
    "release before the turn's end": Mutation(
        movement.unheard_release, worker_class=ReleasesAtOnce
    ),
    "limit begins anew with a table": Mutation(movement.unheard_end, worker_class=LimitBeginsAnew),
    "table takes a release back": Mutation(movement.to_and_fro, worker_class=TakesBackReleases),
}
