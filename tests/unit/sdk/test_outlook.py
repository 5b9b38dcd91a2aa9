"""What a follower was told of lost owners: a time, unless they may be back any moment."""

from __future__ import annotations

import pytest

from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.outlook import RESUME_NS, ToldOutlook
from seedbed.routing import Owner, RouteTable, ShardTable
from seedbed.v1 import cluster_pb2 as pb
from tests.unit.sdk.fake_network import ManualClock

OWNER = Owner(NodeId("w"), Incarnation("w-1"), "127.0.0.1", 1)
TABLE = ShardTable("thing", 0, 1, Generation(1), (OWNER,), (1,), (Epoch(1),))
RESUME_S = RESUME_NS / 1e9


def lost(ms: int) -> list[pb.Lost]:
    return [pb.Lost(incarnation="w-1", available_in_ms=ms)]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def outlook(clock: ManualClock) -> ToldOutlook:
    routes = RouteTable()
    routes.apply(1, [TABLE], snapshot=True)
    return ToldOutlook(routes, clock)


def test_an_owner_that_was_lost_just_now_may_resume(
    clock: ManualClock, outlook: ToldOutlook
) -> None:
    assert outlook.back_within_s("thing", 0) == 0
    outlook.told(lost(4_000))
    assert outlook.available_in_s("thing", 0) == pytest.approx(4)
    assert outlook.back_within_s("thing", 0) == pytest.approx(RESUME_S)
    clock.advance(RESUME_S - 0.01)
    outlook.told(lost(3_510))  # the same loss, told again
    assert outlook.back_within_s("thing", 0) == pytest.approx(0.01)
    clock.advance(0.01)
    assert outlook.back_within_s("thing", 0) == 0


def test_one_that_came_back_and_was_lost_again_may_resume_again(
    clock: ManualClock, outlook: ToldOutlook
) -> None:
    outlook.told(lost(4_000))
    clock.advance(1)
    outlook.told([])
    outlook.told(lost(4_000))
    assert outlook.back_within_s("thing", 0) == pytest.approx(RESUME_S)


def test_a_time_that_has_passed_says_nothing(clock: ManualClock, outlook: ToldOutlook) -> None:
    outlook.told(lost(1_000))
    clock.advance(1.1)
    assert outlook.available_in_s("thing", 0) is None
