"""Reminders: what a turn asks for, and what comes of it."""

from __future__ import annotations

from datetime import timedelta

from probe.v1 import probe_pb2 as pb

from seedbed import Reminder, ServicerContext
from tests.unit.worker.commits_world import Kept, Store
from tests.unit.worker.host_world import World, settle, world


class Alarmed(Kept, durable=True):
    async def Act(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        if request.how == "remind":
            self.remind(self.ring, after=timedelta(seconds=request.amount))
            return self.answer()
        return await super().Act(request, context)

    async def ring(self, reminder: Reminder) -> None:
        self.state.value += 1
        self.save()


async def pass_s(w: World, seconds: float) -> None:
    for _ in range(int(seconds * 10)):
        w.clock.advance(0.1)
        w.renew()
        w.host.tick()
        await settle()


async def test_a_reminder_rings() -> None:
    async with world(Alarmed, store=Store()) as w:
        await w.run(w.call("Act", how="remind", amount=2))
        await pass_s(w, 1.8)
        assert (await w.read()).total == 0
        await pass_s(w, 0.4)
        assert (await w.read()).total == 1
        await pass_s(w, 5)
        assert (await w.read()).total == 1
