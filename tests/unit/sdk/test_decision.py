"""What a router does with a call, as tables."""

from __future__ import annotations

import pytest

from seedbed.calls import EntityCall, Failed, Lost, NotHere, Outcome, Replied
from seedbed.decision import After, after, outcome_unknown, target, waited_in_vain, waits_for_table
from seedbed.errors import Reason
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.routing import Owner, Place

OWNER = Owner(NodeId("w"), Incarnation("w-1"), "127.0.0.1", 1)
CALL = EntityCall("/p.S/M", "t", "k", 1, b"", None, Epoch(5), Generation(9))


def place(owner: Owner | None = OWNER, *, generation: int = 9, moving: bool = False) -> Place:
    return Place(owner, Epoch(5), Generation(generation), moving)


@pytest.mark.parametrize(
    ("where", "refused", "unreachable", "goes"),
    [
        (None, 0, (), False),
        (place(None), 0, (), False),
        (place(moving=True), 0, (), False),
        (place(), 0, ("w-1",), False),
        (place(), 9, (), False),
        (place(), 10, (), False),
        (place(), 8, (), True),
        (place(), 0, ("another",), True),
        (place(), 0, (), True),
    ],
)
def test_a_call_goes_to_an_owner_that_has_not_refused_it_by_this_table(
    where: Place | None, refused: int, unreachable: tuple[str, ...], goes: bool
) -> None:
    silent = frozenset(Incarnation(one) for one in unreachable)
    found = target(where, refused=Generation(refused), unreachable=silent)
    assert found == (OWNER if goes else None)


@pytest.mark.parametrize(
    ("outcome", "may_repeat", "first_loss"),
    [
        (Replied(b"", Epoch(5)), After.ANSWER, After.ANSWER),
        (Replied(b"", Epoch(6)), After.ANSWER, After.ANSWER),
        (Replied(b"", Epoch(4)), After.REPEAT, After.UNKNOWN),
        (Failed(5, "the entity's own", epoch=Epoch(5)), After.ANSWER, After.ANSWER),
        (Failed(5, "an old owner's", epoch=Epoch(4)), After.REPEAT, After.UNKNOWN),
        (Failed(0, ""), After.ANSWER, After.ANSWER),
        (Failed(8, "", Reason.OVERLOADED), After.ANSWER, After.ANSWER),
        (Failed(4, "", Reason.DEADLINE, started=True), After.ANSWER, After.ANSWER),
        (Failed(10, "", Reason.FENCED, started=True), After.REPEAT, After.UNKNOWN),
        (Failed(14, "", Reason.NOT_OWNER), After.AGAIN, After.AGAIN),
        (NotHere(Generation(9)), After.AGAIN, After.AGAIN),
        (Lost(sent=False), After.AGAIN, After.AGAIN),
        (Lost(sent=True), After.REPEAT, After.UNKNOWN),
    ],
)
def test_what_follows_from_an_outcome(
    outcome: Outcome, may_repeat: After, first_loss: After
) -> None:
    for repeatable, read_only in ((True, False), (False, True), (True, True)):
        assert (
            after(outcome, CALL, repeatable=repeatable, read_only=read_only, losses=0) is may_repeat
        )
    assert after(outcome, CALL, repeatable=False, read_only=False, losses=0) is first_loss


def test_a_second_loss_is_the_last() -> None:
    lost = Lost(sent=True)
    assert after(lost, CALL, repeatable=True, read_only=True, losses=1) is After.UNKNOWN
    unsent = Lost(sent=False)
    assert after(unsent, CALL, repeatable=True, read_only=True, losses=1) is After.AGAIN


@pytest.mark.parametrize(
    ("outcome", "waits"),
    [
        (NotHere(Generation(9)), True),
        (Failed(14, "", Reason.NOT_OWNER), True),
        (Failed(10, "", Reason.FENCED), True),
        (Failed(8, "", Reason.OVERLOADED), False),
        (Lost(sent=True), False),
    ],
)
def test_a_refusal_waits_for_another_table(outcome: Outcome, waits: bool) -> None:
    assert waits_for_table(outcome) is waits


@pytest.mark.parametrize(
    ("workers", "may_have_run", "reason"),
    [
        (True, False, Reason.MOVING),
        (False, False, Reason.NO_WORKERS),
        (True, True, Reason.OUTCOME_UNKNOWN),
        (False, True, Reason.OUTCOME_UNKNOWN),
    ],
)
def test_who_waited_in_vain_learns_why(workers: bool, may_have_run: bool, reason: Reason) -> None:
    error = waited_in_vain("t", 3, workers=workers, may_have_run=may_have_run)
    assert error.reason is reason


def test_moving_says_for_how_long() -> None:
    error = waited_in_vain("t", 3, workers=True, may_have_run=False, retry_after_s=4.0)
    assert error.retry_after_s == 4.0
    assert "4.0 s" in error.message


def test_an_unknown_outcome_says_how_to_repeat_the_call() -> None:
    assert "idempotency-key" in outcome_unknown("lost").message
