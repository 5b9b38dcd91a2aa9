"""What a worker and a seed say to each other on a Register stream, as `core.session` knows it.

Times are nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from seedbed.ids import Epoch, Incarnation
from seedbed.lease_state import LeaseState
from seedbed.routing import Release, ShardTable

# Messages from a seed.


@dataclass(frozen=True, slots=True)
class Welcome:
    """The Hello is in the store. `skew_ms`: the seed's wall clock less ours."""

    lease_id: int
    secret: bytes
    ttl_ns: int
    seeds: tuple[str, ...] = ()
    skew_ms: int = 0
    cluster_uid: str = ""
    """For a worker with a journal, as are the shard counts of its types."""
    shard_counts: Mapping[str, int] = field(default_factory=dict[str, int])


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


@dataclass(frozen=True, slots=True)
class RecordUp:
    """The member's record says UP."""


FromSeed: TypeAlias = Welcome | Refused | Acked | Routes | GoElsewhere | Farewell | RecordUp

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
