"""An entity that is reminded, and time that passes."""

from __future__ import annotations

from datetime import timedelta

import grpc
from probe.v1 import probe_pb2 as pb

from seedbed import Abort, Reminder, ServicerContext
from seedbed_worker.entity_store import EntityStore
from tests.unit.worker.commits_world import Kept
from tests.unit.worker.host_world import GATES, World, reply, settle

RANG: list[str] = []
"""`key method/name count` of the turns that began, in order."""
FAILING: set[str] = set()
"""Names of reminders whose turns fail."""
GATED: set[str] = set()
"""Names of those that wait for the gate of this name."""
IDS: list[str] = []
"""Their requests' ids."""


class Reminded(Kept, durable=True):
    """`Act` does `how`, a list of words: `ring 5`, `tick 2 every`, `forget`, `save`, `fail` …"""

    async def Act(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        for step in request.how.split(", "):
            match step.split():
                case ["ring", after, *rest]:
                    self.remind(
                        self.ring,
                        after=timedelta(seconds=float(after)),
                        name=rest[0] if rest else "",
                    )
                case ["tick", every, *rest]:
                    span = timedelta(seconds=float(every))
                    self.remind(self.ring, after=span, every=span, durable="memory" not in rest)
                case ["memory", after]:
                    self.remind(self.ring, after=timedelta(seconds=float(after)), durable=False)
                case ["forget", *rest]:
                    self.forget(self.ring, name=rest[0] if rest else "")
                case ["delete"]:
                    self.delete()
                case ["save"]:
                    self.state.value += 1
                    self.save()
                case ["wait"]:
                    await GATES.wait("act")
                case ["fail"]:
                    raise Abort(grpc.StatusCode.ABORTED, "no")
                case other:
                    raise AssertionError(other)
        return self.answer()

    async def ring(self, reminder: Reminder) -> None:
        RANG.append(f"{self.key}{reminder.name} {reminder.count}")
        IDS.append(self.turn.request_id)
        if reminder.name in GATED:
            await GATES.wait(reminder.name)
        self.state.value += 1
        self.save()
        if reminder.name in FAILING:
            raise Abort(grpc.StatusCode.UNAVAILABLE, "not now")
        if reminder.name == "outside":
            async with self.outside():
                RANG.append("outside")
                await GATES.wait("outside")
            self.state.value += 100
            self.save()
        elif reminder.name == "silent":
            self.change_nothing()
        elif reminder.name == "anew":
            self.remind(self.ring, after=timedelta(seconds=3), name=reminder.name)
        elif reminder.name == "away":
            self.passivate()

    def change_nothing(self) -> None:
        """So that only the reminder itself changes."""


class Fleeting(Reminded, durable=False):
    """The same without a store."""


def fresh() -> None:
    """Before each test."""
    RANG.clear()
    FAILING.clear()
    GATED.clear()
    IDS.clear()


async def act(w: World, how: str, key: str = "a") -> pb.Reply:
    return reply(await w.run(w.call("Act", key, how=how)))


async def wait_s(w: World, seconds: float) -> None:
    """Time passes, a tenth of a second at once; the lease is renewed meanwhile."""
    for _ in range(round(seconds * 10)):
        w.clock.advance(0.099)
        w.renew()
        w.host.tick()
        await settle()


async def rows(store: EntityStore) -> list[tuple[str, str, int]]:
    """Key, name and count of what is stored."""
    found = await store.reminders("probe", range(16), 2**60, None, 1000)
    return [(one.place.key, one.place.name, one.appointment.count) for one in found]


async def take_away(w: World, back_after_s: float = 0.0) -> None:
    """All shards go to another worker, and come back."""
    w.place("other")
    w.host.region_changed()
    await wait_s(w, back_after_s)
    w.place("me")
    w.host.region_changed()
    await settle()
