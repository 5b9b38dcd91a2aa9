"""What happens to a worker's membership and what it does then: the vocabulary of `core.session`.

Times are nanoseconds; a `stream` is the number that the core gave a Register stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from seedbed.ids import Epoch, Incarnation
from seedbed_worker.core.session_messages import FromSeed, Hello, ToSeed

# Events.


@dataclass(frozen=True, slots=True)
class Said:
    """A seed sent a message on a stream."""

    stream: int
    message: FromSeed


@dataclass(frozen=True, slots=True)
class Ended:
    """A stream is over, or was never there."""

    stream: int
    why: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """The loop has stopped all turns of this fenced incarnation and forgotten its entities."""

    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class Bound:
    """The journal has taken the cluster that welcomed this incarnation."""

    incarnation: Incarnation


@dataclass(frozen=True, slots=True)
class StallChanged:
    """The loop stands still for longer than its limit (or runs again)."""

    stalled: bool


@dataclass(frozen=True, slots=True)
class EpochMet:
    """The loop met a call with a higher epoch than the newest table's."""

    type: str
    shard: int
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class ReleasesChanged:
    """The loop has released shards."""


@dataclass(frozen=True, slots=True)
class DrainOrdered:
    """The process is to end: take nothing more, and hand off what there is."""


@dataclass(frozen=True, slots=True)
class LeaveOrdered:
    """All turns have ended: say goodbye, by this time at the latest."""

    by_ns: int


Event: TypeAlias = (
    Said
    | Ended
    | Dropped
    | Bound
    | StallChanged
    | EpochMet
    | ReleasesChanged
    | DrainOrdered
    | LeaveOrdered
)

# Commands.


@dataclass(frozen=True, slots=True)
class Open:
    """Open a Register stream to `address` and send the Hello on it."""

    stream: int
    address: str
    hello: Hello


@dataclass(frozen=True, slots=True)
class Send:
    """Send on an open stream."""

    stream: int
    message: ToSeed


@dataclass(frozen=True, slots=True)
class Close:
    """End a stream; nothing of it is wanted any more."""

    stream: int
    why: str


@dataclass(frozen=True, slots=True)
class TellWelcomed:
    """A seed has let this incarnation in: bind the journal, and answer with `Bound`."""

    incarnation: Incarnation
    cluster_uid: str
    shard_counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TellUp:
    """The lease is renewed and the tables are known: this incarnation serves."""

    incarnation: Incarnation
    address: str


@dataclass(frozen=True, slots=True)
class TellMayBeGiven:
    """This incarnation's record says UP: the seeds may give it shards."""


@dataclass(frozen=True, slots=True)
class TellTables:
    """The region has newer tables, or a stream again: look at what waits."""


@dataclass(frozen=True, slots=True)
class TellFenced:
    """This incarnation serves nothing any more; answer with `Dropped` when it is so."""

    incarnation: Incarnation
    why: str


@dataclass(frozen=True, slots=True)
class TellResumed:
    """The lease goes on at another seed (or on a new stream to the same)."""

    incarnation: Incarnation
    address: str


@dataclass(frozen=True, slots=True)
class TellRefused:
    """A seed will not have this worker as it is."""

    address: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class TellLost:
    """The stream that renews has ended, or its seed is late with an ack."""

    address: str
    why: str


@dataclass(frozen=True, slots=True)
class TellSearching:
    """A seed did not take the Hello; the worker goes on trying."""

    address: str
    why: str


@dataclass(frozen=True, slots=True)
class TellLeft:
    """The session is over. `farewell`: a seed confirmed it."""

    farewell: bool


Command: TypeAlias = (
    Open
    | Send
    | Close
    | TellWelcomed
    | TellUp
    | TellMayBeGiven
    | TellTables
    | TellFenced
    | TellResumed
    | TellRefused
    | TellLost
    | TellSearching
    | TellLeft
)
