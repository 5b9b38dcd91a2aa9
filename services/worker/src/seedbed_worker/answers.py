"""What answers a call: statuses of turns that failed, and what an answer says."""

from __future__ import annotations

import logging

from seedbed.abort import Abort
from seedbed.adapters import EntityContext
from seedbed.calls import EntityCall, Failed, NotHere, Replied
from seedbed.errors import CallError, UnreadableState
from seedbed.groups import leaves
from seedbed.grpc_codes import number_of_code
from seedbed.service.logs import personal
from seedbed.status import failed
from seedbed_worker.onward_errors import OnwardError

log = logging.getLogger(__name__)

_UNKNOWN = 2


class WrongReply(TypeError):
    """A method gave something that is not its reply; the caller may see the text.

    `place` is where the method stands, for the log.
    """

    def __init__(self, text: str, *, place: str = "") -> None:
        super().__init__(text)
        self.place = place


def failure(
    error: BaseException,
    call: EntityCall,
    context: EntityContext | None,
    *,
    started: bool,
    entity: str,
    hook: str,
) -> Failed:
    """The status of a turn that raised: of a foreign error its class only, the rest is logged.

    `entity` is its class, `hook` the hook that raised (empty: none), both for the log.
    """
    found = leaves(error)
    if isinstance(found[0], Abort) and all(isinstance(leaf, Abort) for leaf in found):
        error = found[0]
    if context is not None and context.aborted is not None:
        return context.aborted
    if isinstance(error, Abort):
        return Failed(
            number_of_code(error.code),
            error.message,
            started=True,
            details=error.status(),
            initial=context.initial if context is not None else (),
            trailing=context.trailing if context is not None else (),
        )
    if isinstance(error, CallError):
        return failed(error, started=started)
    onward = found[0] if len(found) == 1 and isinstance(found[0], OnwardError) else None
    passed_on = onward.answer_of(call) if onward is not None else None
    if passed_on is not None:
        return passed_on
    place = error.place if isinstance(error, WrongReply) else ""
    log.error(
        "hook failed" if hook else "turn failed" if started else "entity not made",
        extra={"entity": entity, "entity_type": call.type, "method": call.method}
        | ({"hook": hook} if hook else {})
        | ({"place": place} if place else {})
        | personal(key=call.key),
        exc_info=error,
    )
    if onward is not None:
        text = onward.in_words()
    else:
        ours = isinstance(error, WrongReply | UnreadableState)
        text = str(error) if ours else type(error).__name__
    return Failed(_UNKNOWN, text, started=True)


def code_and_message(answer: Replied | Failed | NotHere | None) -> tuple[int, str]:
    """The status in an answer, for counters and spans."""
    return (answer.code, answer.message) if isinstance(answer, Failed) else (0, "")
