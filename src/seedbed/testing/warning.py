"""What a test's cluster warns of."""

from __future__ import annotations


class StillRunning(UserWarning):
    """A turn that was waited for has not ended within a second of real time.

    It waits for something that is no Seedbed clock's: a socket, `asyncio.sleep`, the test itself.
    """


class UnsavedChange(UserWarning):
    """A turn of a durable class changed the state, succeeded, and did not call `save()`.

    The change stays in memory until the entity leaves it, or a turn fails.
    """
