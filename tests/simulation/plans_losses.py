"""What goes wrong biased towards one way to lose an owner, and to break a promise by that."""

from __future__ import annotations

from random import Random

from tests.simulation.calls import TTL_NS
from tests.simulation.fault import Fault, Faults, Kind, any_fault
from tests.simulation.kernel import SECOND


def cut_off(random: Random) -> Faults:
    """A worker that no seed reaches, while clients still do."""
    return [(random.randrange(0, SECOND), any_fault(random, "cut worker", 3.0, least=2.0))]


def frozen_leader(random: Random) -> Faults:
    """A leader whose requests are under way for ever, and a loss that it and its successor see."""
    faults: Faults = []
    for seed in range(3):
        faults.append((seed * 6 * SECOND, Fault("hold requests", seed, 0, 5 * SECOND)))
        lost = Fault("crash worker", 0, random.randrange(3), SECOND)
        faults.append((seed * 6 * SECOND + SECOND, lost))
    return faults


def deaf_store(random: Random) -> Faults:
    """A seed that hears its workers and does not reach the store."""
    seed = random.randrange(3)
    return [(random.randrange(0, SECOND), Fault("cut store", seed, 0, 3 * TTL_NS))]


def slow_acks(random: Random) -> Faults:
    """Heartbeats arrive and renew; their acknowledgements come when the lease has lapsed."""
    worker = random.randrange(3)
    at_ns = random.randrange(0, SECOND)
    duration_ns = int(TTL_NS * random.uniform(0.8, 1.3))
    return [(at_ns, Fault("hold acks", 0, worker, duration_ns))]


def frozen_turn(random: Random) -> Faults:
    """A worker that stands still in the middle of its turns, past the end of its lease."""
    worker = random.randrange(3)
    duration_ns = int(TTL_NS * random.uniform(1.5, 2.5))
    kind: Kind = random.choice(["pause worker", "pause loop"])
    faults = [(random.randrange(0, SECOND), Fault(kind, 0, worker, duration_ns))]
    if kind == "pause loop":
        faults.append((2 * SECOND, Fault("revoke", 0, worker)))
    return faults


def quick_restarts(random: Random) -> Faults:
    """Workers that die and are back at once, under the same name and address."""
    return [
        (
            random.randrange(0, 10 * SECOND),
            Fault("crash worker", 0, random.randrange(3), SECOND // 10),
        )
        for _ in range(4)
    ]


def moves_unseen(random: Random) -> Faults:
    """Planned moves while a seed's watch, and so its workers, lag far behind."""
    seed = random.randrange(3)
    moves = [(random.randrange(SECOND, 4 * SECOND), Fault("move")) for _ in range(6)]
    return [(SECOND // 2, Fault("hold watch", seed, 0, 4 * TTL_NS)), *moves]


def heard_again(random: Random) -> Faults:
    """A worker that falls silent and is heard again by its seed, and by no other; then its lease is
    ended early, and it does not hear of that."""
    worker = random.randrange(3)
    at_ns = random.randrange(0, SECOND)
    heard_ns = at_ns + int(TTL_NS * random.uniform(0.57, 0.64))
    return [
        (at_ns, Fault("strand", 0, worker, 3 * TTL_NS)),
        (at_ns, Fault("hold heartbeats", 0, worker, heard_ns - at_ns)),
        *_revoke_unheard(random, worker, heard_ns + SECOND // 10),
    ]


def left_stream(random: Random) -> Faults:
    """A seed that sees late that a worker has gone to another; then the worker's lease is ended
    early, and it does not hear of that."""
    worker = random.randrange(3)
    at_ns = random.randrange(0, SECOND)
    away_ns = int(TTL_NS * random.uniform(1.0, 1.6))
    return [
        (at_ns, Fault("pause own seed", 0, worker, away_ns)),
        *_revoke_unheard(random, worker, at_ns + away_ns + SECOND // 10),
    ]


def half_resumed(random: Random) -> Faults:
    """A worker that another seed accepts, and that never hears of it, so that it stays; then its
    lease is ended early, and it does not hear of that either."""
    worker = random.randrange(3)
    at_ns = random.randrange(0, SECOND)
    return [
        (at_ns, Fault("mute others", 0, worker, 3 * TTL_NS)),
        (at_ns, Fault("go elsewhere", 0, worker)),
        (at_ns + TTL_NS // 5, Fault("strand", 0, worker, 3 * TTL_NS)),
        *_revoke_unheard(random, worker, at_ns + int(TTL_NS * random.uniform(0.75, 0.9))),
    ]


def gone_back(random: Random) -> Faults:
    """Planned moves, and a store that is restored from before them, while one of those who own
    something by now is cut off."""
    return _moved_and_restored(random, [("cut worker", 0)])


def gone_back_unseen(random: Random) -> Faults:
    """The same, and one seed has seen nothing of the moves."""
    return _moved_and_restored(random, [("cut worker", 0), ("hold watch", 2 * TTL_NS)])


def emptied(random: Random) -> Faults:
    """A store that comes back empty, while a worker hears nothing of it."""
    at_ns = random.randrange(0, SECOND)
    worker = random.randrange(3)
    return [
        (at_ns, Fault("cut worker", 0, worker, 2 * TTL_NS)),
        (at_ns + random.randrange(SECOND // 2), Fault("empty")),
    ]


def _moved_and_restored(random: Random, troubles: list[tuple[Kind, int]]) -> Faults:
    """Each trouble begins so long before the restore, or shortly before it, and outlasts it."""
    moves = [(random.randrange(SECOND // 2, SECOND), Fault("move")) for _ in range(10)]
    restored_ns = random.randrange(TTL_NS + SECOND, TTL_NS + 2 * SECOND)
    faults = [*moves, (restored_ns, Fault("restore", duration_ns=restored_ns))]
    for kind, before_ns in troubles:
        at_ns = max(0, restored_ns - before_ns - random.randrange(SECOND // 2))
        duration_ns = restored_ns - at_ns + (0 if before_ns else 3 * TTL_NS)
        fault = Fault(kind, random.randrange(3), random.randrange(3), duration_ns)
        faults.append((at_ns, fault))
    return faults


def _revoke_unheard(random: Random, worker: int, at_ns: int) -> Faults:
    late_ns = random.randrange(SECOND // 20)
    return [
        (at_ns, Fault("hold acks", 0, worker, TTL_NS)),
        (at_ns + late_ns, Fault("revoke", 0, worker)),
    ]
