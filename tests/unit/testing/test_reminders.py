"""Reminders by the clock of a test's cluster, over moves and crashes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

import pytest
from ledger.v1 import ledger_pb2 as pb
from ledger.v1 import ledger_pb2_grpc as rpc

from seedbed import Reminder, ServicerContext
from seedbed.testing import cluster
from tests.unit.testing.bank import Account, account, act, posting

HOUR = timedelta(hours=1)
RANG: list[tuple[str, int, str]] = []
"""Key, count and worker of each turn of a reminder."""


@pytest.fixture(autouse=True)
def _fresh() -> None:
    RANG.clear()
    Reminded.fails = 0
    Reminded.ids = []


class Reminded(Account):
    fails: ClassVar[int]
    """So many turns fail after their call."""
    ids: ClassVar[list[str]]
    """Of the calls that an account was made by `pay`."""

    async def activated(self) -> None: ...

    async def deactivating(self) -> None: ...

    async def Act(self, request: pb.ActRequest, context: ServicerContext) -> pb.Balance:
        match request.how.split():
            case ["once", hours]:
                self.remind(self.ring, after=float(hours) * HOUR)
            case ["every", hours]:
                self.remind(self.ring, after=float(hours) * HOUR, every=float(hours) * HOUR)
            case ["memory", hours]:
                self.remind(self.ring, after=float(hours) * HOUR, durable=False)
            case ["pay"]:
                self.remind(self.pay)
            case other:
                raise AssertionError(other)
        return self.balance()

    async def Post(self, request: pb.Posting, context: ServicerContext) -> pb.Balance:
        Reminded.ids.append(self.turn.request_id)
        return await super().Post(request, context)

    async def ring(self, reminder: Reminder) -> None:
        RANG.append((self.key, reminder.count, self.turn.worker))
        self.state.cents += 1
        self.save()

    async def pay(self, reminder: Reminder) -> None:
        await rpc.AccountStub(self.channel).Post(posting("b", 10))
        if Reminded.fails:
            Reminded.fails -= 1
            raise ConnectionError
        self.state.cents -= 10
        self.save()


async def test_time_that_is_advanced_fires_what_is_due() -> None:
    async with cluster(Reminded) as c:
        accounts = rpc.AccountStub(c.channel)
        await accounts.Act(act("a", "once 24"))
        await accounts.Act(act("b", "every 1"))
        await c.advance(timedelta(hours=24) - timedelta(seconds=1))
        assert ("a", 1, "worker-0") not in RANG
        assert [count for key, count, _ in RANG if key == "b"] == list(range(1, 24))
        await c.advance(timedelta(seconds=1))
        assert RANG[-2:] in (
            [("a", 1, "worker-0"), ("b", 24, "worker-0")],
            [("b", 24, "worker-0"), ("a", 1, "worker-0")],
        )


async def test_reminders_outlive_a_move_and_a_crash() -> None:
    async with cluster(Reminded, workers=3) as c:
        accounts = rpc.AccountStub(c.channel)
        await c.move(Reminded, "a", to=0)
        await accounts.Act(act("a", "every 1"))
        await c.advance(HOUR)
        await c.move(Reminded, "a", to=1)
        await c.advance(HOUR)
        await c.kill(1)
        await c.advance(HOUR)
        counts = [count for _, count, _ in RANG]
        assert counts == [1, 2, 3]
        assert [worker for _, _, worker in RANG][:2] == ["worker-0", "worker-1"]
        assert RANG[2][2] != "worker-1"
        assert (await c.state(Reminded, "a")).cents == 3


async def test_in_memory_only_they_are_lost_in_a_move_and_a_crash() -> None:
    async with cluster(Reminded, workers=3) as c:
        accounts = rpc.AccountStub(c.channel)
        await accounts.Act(act("a", "memory 1"))
        await c.advance(HOUR)
        assert len(RANG) == 1
        await accounts.Act(act("a", "memory 1"))
        await c.move(Reminded, "a", to=1)
        await c.advance(2 * HOUR)
        await accounts.Act(act("a", "memory 1"))
        await c.kill(1)
        await c.advance(2 * HOUR)
        assert len(RANG) == 1


async def test_a_repeat_makes_its_calls_under_the_same_ids_after_a_crash_too() -> None:
    async with cluster(Reminded, workers=3) as c:
        await c.move(Reminded, "a", to=0)
        await c.move(Reminded, "b", to=1)
        Reminded.fails = 5
        await rpc.AccountStub(c.channel).Act(act("a", "pay"))
        await c.advance(timedelta(minutes=5))
        assert Reminded.fails == 0, "it has failed so often"
        assert (await c.state(Reminded, "b")).cents == 10
        Reminded.fails = 2
        await rpc.AccountStub(c.channel).Act(act("a", "pay"))
        await c.advance(timedelta())
        assert Reminded.fails == 1
        await c.kill(0)
        await c.advance(timedelta(minutes=5))
        assert Reminded.fails == 0
        assert (await c.state(Reminded, "b")).cents == 20
        assert (await c.state(Reminded, "a")).cents == -20
        assert len(set(Reminded.ids)) == len(Reminded.ids) == 2, "only the first of each has run"


async def test_a_reminder_tells_when_it_was_due() -> None:
    seen: list[tuple[Reminder, datetime]] = []

    class Dated(Reminded):
        async def ring(self, reminder: Reminder) -> None:
            seen.append((reminder, self.turn.now))

    async with cluster(Dated) as c:
        await rpc.AccountStub(c.channel).Act(act("a", "every 2"))
        await c.advance(4 * HOUR)
        (first, then), (second, later) = seen
        assert (first.name, first.count, second.count) == ("", 1, 2)
        assert second.due - first.due == later - then == 2 * HOUR
        assert timedelta() <= then - first.due < timedelta(milliseconds=21)
        assert (await rpc.AccountStub(c.channel).Get(account("a"))).cents == 0
