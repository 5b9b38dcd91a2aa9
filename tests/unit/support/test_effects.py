"""The movement tests' own checks: each finds what it is for."""

from __future__ import annotations

import grpc
import pytest

from tests.support.effects import Effect, check_effects, unasked
from tests.support.load import Call, Load
from tests.support.pauses import in_ms, moved_keys, pauses, quantile
from tests.support.watchers import End, Watching

FAILED = grpc.StatusCode.ABORTED


def call(
    number: int, sent: float, done: float, *, ok: bool = True, key: str = "k", epoch: int = 1
) -> Call:
    code = grpc.StatusCode.OK if ok else FAILED
    return Call(key, sent, done, code, epoch=epoch, number=number)


def effect(number: int, time: float, *, key: str = "k", epoch: int = 1) -> Effect:
    return Effect(key, number, epoch, "w", time)


CALLS = [call(1, 1, 2), call(2, 3, 4), call(3, 3.5, 5, ok=False)]


@pytest.mark.parametrize(
    "effects",
    [
        [effect(1, 1.5), effect(2, 3.5)],
        [effect(1, 1.5), effect(2, 3.5), effect(3, 9)],
        [effect(1, 1.5), effect(3, 3.6), effect(2, 3.7)],
    ],
)
def test_what_may_happen(effects: list[Effect]) -> None:
    check_effects(CALLS, effects)


@pytest.mark.parametrize(
    ("effects", "why"),
    [
        ([effect(1, 1.5)], "lost"),
        ([effect(1, 1.5), effect(2, 3.5), effect(2, 3.6)], "doubled"),
        ([effect(1, 1.5), effect(2, 3.5), effect(3, 3.6), effect(3, 3.7)], "doubled"),
        ([effect(1, 1.5), effect(2, 3.5), effect(7, 3.6)], "nobody asked"),
        ([effect(1, 1.5), effect(2, 3.5, key="other")], "another entity's"),
        ([effect(1, 1.5), effect(2, 4.5)], "not while it was asked for"),
        ([effect(1, 1.5, epoch=2), effect(2, 3.5)], "an old owner's"),
    ],
)
def test_what_may_not_happen(effects: list[Effect], why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        check_effects(CALLS, effects)


def test_an_effect_of_a_failed_call_before_that_of_an_earlier_answer_is_out_of_order() -> None:
    calls = [call(1, 1, 2), call(2, 3, 4, ok=False)]
    with pytest.raises(AssertionError, match="reordered"):
        check_effects(calls, [effect(2, 1.1), effect(1, 1.5)])


def test_effects_for_callers_that_had_given_up_are_counted() -> None:
    assert unasked(CALLS, [effect(1, 1.5), effect(3, 5.6)], timeout=2) == 1
    assert unasked(CALLS, [effect(1, 1.5), effect(3, 5.4)], timeout=2) == 0


def test_a_pause_lasts_from_sending_to_the_keys_next_good_answer() -> None:
    record = Load([call(1, 1, 1.1), call(2, 2, 7, ok=False), call(3, 4, 6), call(4, 8, 8.5)])
    assert pauses(record, 0, 5) == {"k": 4}
    assert pauses(record, 7, 9) == {"k": 0.5}
    assert pauses(record, 0, 5, ["other"]) == {}
    record.calls.append(call(5, 4, 9, ok=False, key="gone"))
    assert pauses(record, 0, 5)["gone"] == float("inf")


def test_keys_that_moved_are_those_with_another_epoch() -> None:
    record = Load([call(1, 1, 2), call(2, 3, 4, epoch=2), call(3, 1, 2, key="stays")])
    assert moved_keys(record, 0, 5) == {"k"}
    assert moved_keys(record, 2, 5) == set()


def test_quantiles() -> None:
    assert [quantile([3, 1, 2], share) for share in (0, 0.5, 1)] == [1, 2, 3]
    assert quantile([], 0.5) == 0
    assert in_ms([0.001, 0.002]) == "p50 2.0, p99 2.0, max 2.0 ms (n=2)"


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (End("k", 1, "OUTCOME_UNKNOWN", "", 0.1), "unexpected end"),
        (End("k", 1, "MOVING", ""), "away for too long"),
        (End("k", 1, "MOVING", "", 1.5), "away for too long"),
    ],
)
def test_a_stream_that_ends_otherwise_is_found(end: End, why: str) -> None:
    Watching(["k"], ends=[End("k", 0, "MOVING", "", 0.5)]).check()
    with pytest.raises(AssertionError, match=why):
        Watching(["k"], ends=[end]).check()
