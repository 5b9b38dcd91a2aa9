"""A call to an entity on its way from a router to the host, and what can come of it.

Plain data, shared by gateway, client, Link and worker; nothing here knows a transport.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from seedbed.errors import Reason
from seedbed.ids import NO_EPOCH, NO_GENERATION, Epoch, Generation

Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]
"""gRPC metadata: lower-case names; values are bytes for names that end in `-bin`."""


@dataclass(slots=True)
class EntityCall:
    """One call of an entity's method. `request` is the user's message, untouched.

    `deadline_ns` is on CLOCK_BOOTTIME of this process (None: no deadline; streams only).
    `epoch` and `generation` are what the router knew when it sent this attempt; 0 when a plain
    client called a worker's own port.
    """

    method: str
    type: str
    key: str
    shard: int
    request: bytes
    deadline_ns: int | None
    epoch: Epoch = NO_EPOCH
    generation: Generation = NO_GENERATION
    attempt: int = 1
    request_id: str = ""
    caller: str = ""
    traceparent: str = ""
    tracestate: str = ""
    metadata: Metadata = ()
    chain: tuple[str, ...] = ()
    from_seed: bool = False


@dataclass(slots=True)
class Replied:
    """The entity's method returned: its reply, serialised.

    Nobody changes it; it is not frozen since that triples what it costs to make one (0.4 µs more).
    """

    response: bytes
    epoch: Epoch = NO_EPOCH
    initial: Metadata = ()
    trailing: Metadata = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The call ended with a status: the entity's own, or (with a reason) Seedbed's.

    `started` says whether a turn had begun. `details` is a serialised google.rpc.Status, or empty.
    A stream's good end is `Failed(0, "")`, named `STREAM_END`.
    """

    code: int
    message: str
    reason: Reason | None = None
    started: bool = False
    details: bytes = b""
    retry_after_s: float | None = None
    epoch: Epoch = NO_EPOCH
    initial: Metadata = ()
    trailing: Metadata = ()


@dataclass(frozen=True, slots=True)
class NotHere:
    """This worker is not the owner (by its table of `generation`); nothing ran."""

    generation: Generation


@dataclass(frozen=True, slots=True)
class Lost:
    """The link broke (or the owner died) after the call was sent: it may have run.

    `sent` is False if the call provably never left this process.
    """

    sent: bool


Outcome: TypeAlias = Replied | Failed | NotHere | Lost
