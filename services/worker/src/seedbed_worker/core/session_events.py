"""What happens to a worker's membership and what it does then: the vocabulary of `core.session`.

Times are nanoseconds; a `stream` is the number that the core gave a Register stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from seedbed.ids import Epoch, Incarnation
from seedbed.routing import Release, ShardTable


class LeaseState(Enum):
    """A seed's answer to a heartbeat."""

    RENEWED = "RENEWED"
    LOST = "LOST"
    UNKNOWN = "UNKNOWN"


# Messages from a seed.


@dataclass(frozen=True, slots=True)
class Welcome:
    """The Hello is in the store. `skew_ms`: the seed's wall clock less ours."""

    lease_id: int
    secret: bytes
    ttl_ns: int
    seeds: tuple[str, ...] = ()
    skew_ms: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """The seed does not take this Hello. `retry_after_ns` 0: it names no time."""

    reason: str
    message: str
    retry_after_ns: int = 0


@dataclass(frozen=True, slots=True)
class Acked:
    """The answer to heartbeat `seq`."""

    seq: int
    state: LeaseState
    ttl_ns: int
    skew_ms: int = 0


@dataclass(frozen=True, slots=True)
class Routes:
    """Tables that changed; with `snapshot`, all there are."""

    tables: tuple[ShardTable, ...]
    snapshot: bool = False
    seeds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GoElsewhere:
    """The seed is going away."""


@dataclass(frozen=True, slots=True)
class Farewell:
    """The answer to Goodbye: the lease is released."""


FromSeed: TypeAlias = Welcome | Refused | Acked | Routes | GoElsewhere | Farewell

# Messages to a seed.


@dataclass(frozen=True, slots=True)
class Hold:
    """What proves that an incarnation is this process's own: the secret of its Welcome."""

    incarnation: Incarnation
    lease_id: int
    secret: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """Begins a stream. With `resume` it goes on with a lease; with `replace` it names the
    process's own earlier incarnation, which is fenced."""

    incarnation: Incarnation
    stream_id: str
    resume: Hold | None = None
    replace: Hold | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat, with all that was released and no table has given to another yet."""

    seq: int
    released: tuple[Release, ...] = ()


@dataclass(frozen=True, slots=True)
class Released:
    """The same, said at once."""

    released: tuple[Release, ...]


@dataclass(frozen=True, slots=True)
class EpochSeen:
    """A router knows a higher epoch than the newest table."""

    type: str
    shard: int
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Draining:
    """Give this worker nothing more."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """This worker is drained and fenced."""


ToSeed: TypeAlias = Beat | Released | EpochSeen | Draining | Goodbye

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
    Said | Ended | Dropped | StallChanged | EpochMet | ReleasesChanged | DrainOrdered | LeaveOrdered
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
class TellUp:
    """The lease is renewed and the tables are known: this incarnation serves."""

    incarnation: Incarnation
    address: str


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
    | TellUp
    | TellTables
    | TellFenced
    | TellResumed
    | TellRefused
    | TellLost
    | TellSearching
    | TellLeft
)
