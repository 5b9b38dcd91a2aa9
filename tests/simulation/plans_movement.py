"""Hand-offs, drains and updates, with and without trouble, each biased towards one promise."""

from __future__ import annotations

from random import Random

from tests.simulation.calls import HANDOFF_NS, TTL_NS
from tests.simulation.fault import Fault, Faults, Kind, Plan
from tests.simulation.kernel import SECOND

# Without trouble: no call that can wait fails.


def update(random: Random) -> Faults:
    """A rolling update; now and then an undo in the middle, or more workers, or another leader."""
    roll: Kind = "roll" if random.random() < 0.6 else "roll without surge"
    faults = [(random.randrange(SECOND), Fault(roll))]
    besides: list[Kind] = ["undo", "join", "resign"]
    return faults + [
        (random.randrange(SECOND, 6 * SECOND), _fault(random, kind))
        for kind in besides
        if random.random() < 0.4
    ]


def drains(random: Random) -> Faults:
    """Two of three workers are told to end, at one instant or one after the other."""
    first, second = random.sample(range(3), 2)
    at_ns = random.randrange(SECOND)
    later_ns = at_ns + random.choice([0, random.randrange(4 * SECOND)])
    faults = [
        (at_ns, Fault("sigterm", 0, first, random.randrange(2 * SECOND))),
        (later_ns, Fault("sigterm", 0, second, random.randrange(2 * SECOND))),
    ]
    if random.random() < 0.5:
        faults.append((random.choice([at_ns, at_ns + SECOND // 10]), Fault("resign")))
    return faults


def orders(random: Random) -> Faults:
    """An operator empties one node, moves shards about, and opens the node again."""
    node = random.randrange(3)
    faults = [(random.randrange(SECOND, 8 * SECOND), _fault(random, "move")) for _ in range(8)]
    kind: Kind = random.choice(["drain node", "cordon"])
    return [
        *faults,
        (random.randrange(3 * SECOND), Fault(kind, 0, node)),
        (random.randrange(4 * SECOND, 8 * SECOND), Fault("free nodes")),
    ]


def scaling(random: Random) -> Faults:
    """Workers come, and later some go."""
    joins = [(random.randrange(3 * SECOND), Fault("join")) for _ in range(3)]
    leaves = [(random.randrange(6 * SECOND, 9 * SECOND), _fault(random, "leave")) for _ in range(2)]
    return joins + leaves


# With trouble.


def many_moves(random: Random) -> Faults:
    """Shards that move all the time, and workers whose loops stand still now and then."""
    faults = [(random.randrange(12 * SECOND), _fault(random, "move")) for _ in range(50)]
    for _ in range(3):
        duration_ns = random.randrange(HANDOFF_NS // 2, HANDOFF_NS + TTL_NS + SECOND)
        pause = Fault("pause loop", 0, random.randrange(3), duration_ns)
        faults.append((random.randrange(8 * SECOND), pause))
    return faults


def unheard_handoff(random: Random) -> Faults:
    """A worker that does not hear of its shards' hand-off, while its lease lasts."""
    worker = random.randrange(3)
    at_ns = random.randrange(SECOND, 2 * SECOND)
    return [
        *_deafened(worker, at_ns),
        (at_ns + random.randrange(SECOND // 10), Fault("drain node", 0, worker)),
    ]


def unheard_release(random: Random) -> Faults:
    """A worker that hears of its shards' hand-off, and not of what follows from their release."""
    worker = random.randrange(3)
    at_ns = random.randrange(2 * SECOND, 3 * SECOND)
    return [
        (at_ns - SECOND, Fault("long turns", 0, worker, SECOND)),
        (at_ns, Fault("drain node", 0, worker)),
        *_deafened(worker, at_ns + random.randrange(SECOND // 20, SECOND // 6)),
    ]


def unheard_end(random: Random) -> Faults:
    """A worker with turns that do not end, which does not hear when its shards' hand-off ends at
    its limit and a TTL; until then other shards go on moving."""
    worker = random.randrange(3)
    at_ns = random.randrange(2 * SECOND, 3 * SECOND)
    ends_ns = at_ns + HANDOFF_NS + TTL_NS
    return [
        (at_ns - 2 * SECOND, Fault("long turns", 0, worker, 2 * SECOND)),
        (at_ns, Fault("drain node", 0, worker)),
        *((random.randrange(at_ns, ends_ns), _fault(random, "move")) for _ in range(40)),
        *_deafened(worker, ends_ns - random.randrange(SECOND // 5)),
    ]


def to_and_fro(random: Random) -> Faults:
    """Shards that return to where they were and move again, which a worker then does not hear."""
    worker = random.randrange(3)
    moves = [(random.randrange(8 * SECOND), _fault(random, "move")) for _ in range(70)]
    return [*_deafened(worker, random.randrange(4 * SECOND, 6 * SECOND)), *moves]


def _deafened(worker: int, at_ns: int) -> Faults:
    """From then on a worker's seed hears nothing of the store, and it cannot go to another."""
    return [
        (at_ns, Fault("deafen", 0, worker, 2 * TTL_NS)),
        (at_ns, Fault("strand", 0, worker, 2 * TTL_NS)),
    ]


def troubled_handoffs(random: Random) -> Faults:
    """Old owner, new owner or leader is lost in the middle of many hand-offs."""
    faults: Faults = []
    for at_ns in (SECOND, 8 * SECOND):
        kind: Kind = random.choice(["sigterm", "drain node", "roll", "roll without surge", "move"])
        faults += [(at_ns, _fault(random, kind)) for _ in range(6 if kind == "move" else 1)]
        trouble: Kind = random.choice(
            ["crash worker", "crash leader", "pause leader", "cut leader", "pause worker", "resign"]
        )
        duration_ns = random.randrange(SECOND, HANDOFF_NS + 2 * TTL_NS)
        late_ns = random.randrange(SECOND)
        trouble_ = Fault(trouble, random.randrange(3), random.randrange(3), duration_ns)
        faults.append((at_ns + late_ns, trouble_))
    return faults


def troubled_updates(random: Random) -> Faults:
    """An update during which anything else happens to workers."""
    troubles: list[Kind] = ["crash worker", "crash leader", "revoke"]
    besides: list[Kind] = [*troubles, "undo", "join", "sigterm", "leave"]
    kinds: list[Kind] = [random.choice(troubles), random.choice(besides), random.choice(besides)]
    return [
        *update(random),
        *((random.randrange(6 * SECOND), _fault(random, kind)) for kind in kinds),
    ]


GENTLE_PLANS: list[Plan] = [update, drains, orders, scaling]
TROUBLED: list[Plan] = [
    many_moves,
    unheard_handoff,
    unheard_release,
    unheard_end,
    to_and_fro,
    troubled_handoffs,
    troubled_updates,
]


def _fault(random: Random, kind: Kind) -> Fault:
    return Fault(kind, random.randrange(3), random.randrange(3), random.randrange(TTL_NS))
