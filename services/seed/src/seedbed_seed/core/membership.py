"""A worker as its record in the store describes it, and how its status may change.

Theory. A record lives as long as its lease. Status only moves forward:

    JOINING ──> UP ──> DRAINING ──> LEFT          any ──> DOWN (the record is gone)
       └────────┴──────────┴──────────┘

JOINING has a lease and is given nothing; UP has shown that it renews; DRAINING keeps the shards it
has and is given no more; LEFT has fenced itself and said goodbye, so it serves no more for certain;
DOWN is told by the record's absence and never stored. A mark (`silent_age_ns`) says that a seed has
given the member up on the Register stream that the record names: that stream renews it no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from seedbed.ids import Incarnation, NodeId
from seedbed.routing import Release


class Status(Enum):
    """Where a member is in its life."""

    JOINING = "JOINING"
    UP = "UP"
    DRAINING = "DRAINING"
    LEFT = "LEFT"
    DOWN = "DOWN"

    def may_become(self, other: Status) -> bool:
        """Is this change legal? Staying is."""
        return other in _NEXT[self]


_NEXT: Mapping[Status, frozenset[Status]] = {
    Status.JOINING: frozenset(Status),
    Status.UP: frozenset(Status) - {Status.JOINING},
    Status.DRAINING: frozenset({Status.DRAINING, Status.LEFT, Status.DOWN}),
    Status.LEFT: frozenset({Status.LEFT, Status.DOWN}),
    Status.DOWN: frozenset({Status.DOWN}),
}


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker's record.

    `types` says of each hosted type whether it is durable. `silent_age_ns` is set while the record
    carries a mark: the time from the last renewed heartbeat, or the Hello, to the mark. `replaced`
    names an incarnation that serves no more, with proof. `released` is what it has handed off while
    no table showed that. `rates` has the calls per second of its busiest shards. Revisions are the
    record's in the store.
    """

    node_id: NodeId
    incarnation: Incarnation
    host: str
    port: int
    ttl_ns: int
    status: Status = Status.JOINING
    roles: frozenset[str] = frozenset()
    types: Mapping[str, bool] = field(default_factory=dict[str, bool])
    zone: str = ""
    app_version: str = ""
    app_revision: str = ""
    create_revision: int = 0
    mod_revision: int = 0
    stream_id: str = ""
    silent_age_ns: int | None = None
    replaced: str = ""
    released: frozenset[Release] = frozenset()
    rates: Mapping[tuple[str, int], float] = field(default_factory=dict[tuple[str, int], float])

    @property
    def serving(self) -> bool:
        """Does it keep the shards it owns? (JOINING too: it may have been UP before a restore.)"""
        return self.status in (Status.JOINING, Status.UP, Status.DRAINING)

    @property
    def draining(self) -> bool:
        """Has it said that it will leave?"""
        return self.status is Status.DRAINING

    def takes(self, type_: str, role: str) -> bool:
        """May it be given shards of the type? (`role` is the type's; empty: any.)"""
        return self.status is Status.UP and self.hosts(type_, role)

    def hosts(self, type_: str, role: str) -> bool:
        """Does it host the type, under the role?"""
        return type_ in self.types and (not role or role in self.roles)
