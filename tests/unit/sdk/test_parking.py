"""Calls wait in order, within limits that name their settings, until they are due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.deadlines import TICK_NS, Deadlines
from seedbed.errors import CallError, Reason
from seedbed.parking import Parking, ParkingLimits

FAR = 10**15


def parking(**limits: int) -> Parking[str]:
    return Parking(ParkingLimits(**limits))


def test_calls_of_a_shard_leave_in_their_order_whenever_they_entered() -> None:
    waiting = parking()
    for order, name in ((2, "b"), (3, "c"), (1, "a")):
        waiting.enter("t", 1, name, size=1, due_ns=FAR, order=order)
    waiting.enter("t", 2, "other", size=1, due_ns=FAR, order=0)
    assert waiting.release("t", 1) == ["a", "b", "c"]
    assert waiting.release("t", 1) == []
    assert waiting.shards() == [("t", 2)]
    assert len(waiting) == 1


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        ({"calls": 2}, "SEEDBED_PARKED_CALLS"),
        ({"bytes": 20}, "SEEDBED_PARKED_BYTES"),
        ({"calls_per_shard": 2}, "SEEDBED_PARKED_CALLS_PER_SHARD"),
    ],
)
def test_a_full_place_refuses_and_names_the_setting(limits: dict[str, int], setting: str) -> None:
    waiting = parking(**limits)
    waiting.enter("t", 1, "a", size=10, due_ns=FAR, order=0)
    waiting.enter("t", 1, "b", size=10, due_ns=FAR, order=0)
    with pytest.raises(CallError) as caught:
        waiting.enter("t", 1, "c", size=10, due_ns=FAR, order=0)
    assert caught.value.reason is Reason.OVERLOADED
    assert f"({setting})" in caught.value.message
    assert caught.value.retry_after_s
    assert len(waiting) == 2


def test_one_full_shard_leaves_room_for_others() -> None:
    waiting = parking(calls_per_shard=1)
    waiting.enter("t", 1, "a", size=0, due_ns=FAR, order=0)
    waiting.enter("t", 2, "b", size=0, due_ns=FAR, order=0)
    assert len(waiting) == 2


def test_who_has_left_is_neither_released_nor_due() -> None:
    waiting = parking()
    waiting.enter("t", 1, "a", size=5, due_ns=0, order=0)
    assert waiting.leave("a")
    assert not waiting.leave("a")
    assert waiting.due(FAR) == []
    assert (len(waiting), waiting.bytes) == (0, 0)
    assert not waiting.has_deadlines


def test_what_is_due_leaves_and_what_has_no_deadline_stays() -> None:
    waiting = parking()
    waiting.enter("t", 1, "soon", size=1, due_ns=10, order=0)
    waiting.enter("t", 1, "never", size=1, due_ns=None, order=0)
    assert waiting.due(10 + 2 * TICK_NS) == ["soon"]
    assert waiting.release("t", 1) == ["never"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["enter", "leave", "release", "due"]),
            st.integers(0, 30),
            st.integers(0, 3),
        ),
        max_size=60,
    )
)
def test_counts_agree_with_what_waits(steps: list[tuple[str, int, int]]) -> None:
    waiting: Parking[int] = Parking(ParkingLimits(calls=12, bytes=100, calls_per_shard=6))
    model: dict[int, tuple[int, int, int]] = {}  # item -> shard, size, due
    now = 0
    for step, number, shard in steps:
        match step:
            case "enter" if number not in model:
                due = now + number * TICK_NS
                try:
                    waiting.enter("t", shard, number, size=number, due_ns=due, order=0)
                except CallError:
                    same = sum(1 for s, _, _ in model.values() if s == shard)
                    size = sum(z for _, z, _ in model.values())
                    assert len(model) == 12 or size + number > 100 or same == 6
                else:
                    model[number] = (shard, number, due)
            case "leave":
                assert waiting.leave(number) == (number in model)
                model.pop(number, None)
            case "release":
                mine = [item for item, (s, _, _) in model.items() if s == shard]
                assert waiting.release("t", shard) == mine
                for item in mine:
                    del model[item]
            case "due":
                now += number * TICK_NS
                late = set(waiting.due(now))
                assert all(model[item][2] <= now for item in late)
                for item in late:
                    del model[item]
                assert all(due > now - TICK_NS for _, _, due in model.values())
            case _:
                pass
        assert len(waiting) == len(model)
        assert waiting.bytes == sum(size for _, size, _ in model.values())
        assert set(waiting.shards()) == {("t", s) for s, _, _ in model.values()}


@given(st.lists(st.integers(0, 50 * TICK_NS), max_size=30), st.integers(0, 60 * TICK_NS))
def test_deadlines_are_never_early_and_at_most_a_tick_late(times: list[int], now: int) -> None:
    wheel: Deadlines[int] = Deadlines()
    for item, at in enumerate(times):
        wheel.add(at, item)
    due = set(wheel.due(now))
    assert all(times[item] <= now for item in due)
    assert all(times[item] > now - TICK_NS for item in set(range(len(times))) - due)


def test_a_deadline_that_was_taken_out_does_not_fall_due() -> None:
    wheel: Deadlines[str] = Deadlines()
    tick = wheel.add(5, "a")
    wheel.discard(tick, "a")
    wheel.discard(tick, "a")
    assert not wheel
    assert wheel.due(FAR) == []
