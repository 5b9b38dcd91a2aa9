"""What is raised in an entity whose call to another one has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc.aio

from seedbed.calls import EntityCall, Failed
from seedbed.client_outcomes import trailing_of
from seedbed.grpc_codes import code_of_number
from seedbed.status import reason

if TYPE_CHECKING:
    from seedbed_worker.turn_calls import TurnCalls  # it makes these errors

_PASSED_ON = frozenset({4, 8, 14})  # DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE
_UNAVAILABLE = 14


class OnwardError(grpc.aio.AioRpcError):
    """Knows what was called, and by which turn."""

    # Set after it was made: AioRpcError can be copied only with its own arguments.
    target: str = ""
    """`type/key` and the method's name."""
    outcome: Failed
    turn: TurnCalls

    @property
    def reason(self) -> str:
        """Seedbed's reason; empty if it is the other entity's own status."""
        return reason(self)

    def answer_of(self, call: EntityCall) -> Failed | None:
        """What answers a call whose turn did not catch this: the same, if nothing is half done."""
        outcome = self.outcome
        if (
            outcome.code not in _PASSED_ON
            or (outcome.code == _UNAVAILABLE and not self.reason)
            or not self.turn.has_only_one(call)
        ):
            return None
        # No reason of ours any more, since it is not this call that was refused: the details say
        # to the caller what they said here.
        return Failed(
            outcome.code,
            outcome.message,
            started=True,
            details=outcome.details,
            retry_after_s=outcome.retry_after_s,
        )

    def in_words(self) -> str:
        """For the caller of the entity: it knows neither the other one nor its messages."""
        code = code_of_number(self.outcome.code).name
        why = f" ({self.reason}: {self.outcome.message})" if self.reason else ""
        return f"the call to {self.target} ended with {code}{why}"


def onward_error(outcome: Failed, turn: TurnCalls, target: str) -> OnwardError:
    """The error for this outcome."""
    error = OnwardError(
        code_of_number(outcome.code),
        grpc.aio.Metadata(*outcome.initial),
        grpc.aio.Metadata(*trailing_of(outcome)),
        outcome.message,
    )
    error.target, error.outcome, error.turn = target, outcome, turn
    return error
