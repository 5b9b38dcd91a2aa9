"""What a router does with a call: where it may go, and what follows from what came of it. Pure.

    call ──> `target` ──owner──> sent ──> outcome ──> `after` ─┬─> ANSWER
                 │ none                                        ├─> AGAIN: `target` once more
                 └─> waits for another table ──> `target`      └─> UNKNOWN: it may have run

A call is repeated after NotHere (nothing ran) as soon as the table is newer than the one it was
sent by, and at most once after its outcome was lost, if its method says that it may run twice.

An answer under the epoch by which the call was sent counts, also when a newer table has come
meanwhile. That is linearizable: an owner lets no answer go once it has released its shard, or its
lease or the hand-off's limit is over, and its successor begins later. So the call began, and had
its effect, before the successor answered anybody; how long the answer then took is no matter.
"""

from __future__ import annotations

from collections.abc import Container
from enum import Enum
from typing import assert_never

from seedbed.calls import EntityCall, Failed, Lost, NotHere, Outcome, Replied
from seedbed.errors import CallError, Reason
from seedbed.ids import Generation, Incarnation
from seedbed.routing import Owner, Place

MAX_LOSSES = 1
"""A call that was in flight on this many workers that died may be the reason: no more repeats."""


class After(Enum):
    """What follows from an outcome."""

    ANSWER = "answer"
    """It is the caller's."""
    AGAIN = "again"
    """Nothing ran: send it as soon as there is somewhere to send it."""
    REPEAT = "repeat"
    """It may have run, and may run twice."""
    UNKNOWN = "unknown"
    """It may have run, and may not run twice."""


def target(
    place: Place | None, *, refused: Generation, unreachable: Container[Incarnation]
) -> Owner | None:
    """To whom the call may go now; None: it waits.

    `refused` is the generation of the newest table that is known not to show the shard's owner.
    """
    if place is None or place.owner is None or place.moving:
        return None
    if place.generation <= refused or place.owner.incarnation in unreachable:
        return None
    return place.owner


def after(
    outcome: Outcome, call: EntityCall, *, repeatable: bool, read_only: bool, losses: int
) -> After:
    """What follows from the outcome of an attempt. `losses`: how many outcomes were lost before.

    An answer from below the epoch by which the call was sent is as good as none.
    """
    match outcome:
        case NotHere() | Lost(sent=False) | Failed(reason=Reason.NOT_OWNER):
            return After.AGAIN
        case Replied() | Failed(reason=None) if outcome.epoch >= call.epoch:
            return After.ANSWER
        case Failed(code=0):
            return After.ANSWER  # the end of a stream, whose items carry the epoch
        case Failed(reason=Reason() as reason) if reason is not Reason.FENCED:
            return After.ANSWER  # Seedbed's own word shows nothing of the entity's memory
        case Failed() | Replied() | Lost():
            if not (repeatable or read_only) or losses >= MAX_LOSSES:
                return After.UNKNOWN
            return After.REPEAT
        case _ as never:
            assert_never(never)


def waits_for_table(outcome: Outcome) -> bool:
    """The one who was asked says that he is not (any more) the owner: only another table helps."""
    return isinstance(outcome, NotHere) or (
        isinstance(outcome, Failed) and outcome.reason in (Reason.NOT_OWNER, Reason.FENCED)
    )


def waited_in_vain(
    type_: str, shard: int, *, workers: bool, may_have_run: bool, retry_after_s: float | None = None
) -> CallError:
    """The answer to a call that waited for an owner as long as it could."""
    if may_have_run:
        return outcome_unknown("the worker was lost, and no other was there in time to repeat it")
    if not workers:
        return CallError(
            Reason.NO_WORKERS,
            f"no worker that hosts {type_} is up; nothing ran, repeat the call later",
            retry_after_s=1.0,
        )
    text = f"shard {shard} of {type_} has no reachable owner"
    if retry_after_s is None:
        text = f"{text} yet; nothing ran, repeat the call"
    else:
        text = f"{text} for {retry_after_s:.1f} s more, past the deadline; nothing ran"
    return CallError(Reason.MOVING, text, retry_after_s=retry_after_s or 0.5)


def outcome_unknown(why: str) -> CallError:
    """The answer to a call that may have run and is not repeated."""
    return CallError(
        Reason.OUTCOME_UNKNOWN,
        f"{why}: the call may have run; repeat it with the same idempotency-key",
    )


def too_late(*, sent: bool) -> CallError:
    """The answer to a call that has no outcome at its deadline."""
    if sent:
        return CallError(Reason.DEADLINE, "no answer by the deadline; the call may have run")
    return CallError(Reason.DEADLINE, "the deadline passed before the call left; nothing ran")
