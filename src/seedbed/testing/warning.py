"""What a test's cluster warns of."""

from __future__ import annotations

import warnings

import grpc

from seedbed.abort import Abort


def warn(text: str, kind: type[UserWarning]) -> None:
    """Warn, in a turn. Where such warnings are errors, the turn fails with the text."""
    try:
        warnings.warn(text, kind, stacklevel=2)
    except UserWarning as error:
        # As an `Abort`, so that the test sees the text and not only the name of a class.
        raise Abort(grpc.StatusCode.INTERNAL, str(error)) from None


class StillRunning(UserWarning):
    """A turn that was waited for has not ended within a second of real time.

    It waits for something that is no Seedbed clock's: a socket, `asyncio.sleep`, the test itself.
    """


class UnsavedChange(UserWarning):
    """A turn of a durable class changed the state, succeeded, and did not call `save()`; in a class
    with events: it changed what its events do not say.

    The change stays in memory until the entity leaves it, or a turn fails.
    """


class NeverAwaited(UserWarning):
    """A method called another entity and returned without asking what came of it.

    Nearly always `await` was forgotten: the call may fail, or end later, and nobody knows.
    """
