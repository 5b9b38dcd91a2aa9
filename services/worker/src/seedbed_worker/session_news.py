"""What a worker learns of its membership."""

from __future__ import annotations

from typing import Protocol

from seedbed_worker.binding import Welcomed
from seedbed_worker.core.lease import Lease


class SessionEvents(Protocol):
    """What the session tells the loop; called in the loop, in order."""

    def welcomed(self, welcomed: Welcomed) -> None:
        """A seed has let this incarnation in: bind the journal, then call `Session.bound`."""
        ...

    def up(self, lease: Lease) -> None:
        """This incarnation is a member and serves under this lease."""
        ...

    def may_be_given(self) -> None:
        """The seeds may give this incarnation shards."""
        ...

    def tables_changed(self) -> None:
        """The region has newer tables, or the lease has a stream again."""
        ...

    def fenced(self, why: str) -> None:
        """The incarnation is over: stop its turns and forget its entities before returning."""
        ...

    def refused(self, reason: str, message: str) -> None:
        """A seed does not take this worker as it is."""
        ...
